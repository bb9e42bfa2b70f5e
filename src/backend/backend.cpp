#include "backend/backend.h"

#include "base/error.h"

namespace moeopt {

void Backend::set_record_routes(bool record) {
  if (record) throw_error(ErrorCode::kUnsupported, "the {} backend records no routes", name());
}

}  // namespace moeopt
