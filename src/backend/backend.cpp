#include "backend/backend.h"

#include "base/error.h"

namespace moeopt {

void Backend::set_record_routes(bool record) {
  if (record) throw_error(ErrorCode::kUnsupported, "the {} backend records no routes", name());
}

Backend::Counters Backend::Counters::operator-(const Counters& before) const {
  return {steps - before.steps, tokens - before.tokens,
          moe_layer_launches - before.moe_layer_launches, expert_rows - before.expert_rows,
          fp8_matrix_products - before.fp8_matrix_products};
}

}  // namespace moeopt
