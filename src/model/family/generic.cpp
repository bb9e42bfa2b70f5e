#include "base/error.h"
#include "model/family/family.h"
namespace moeopt {
void parse_generic(const ConfigReader& config, ModelSpec& spec) {
  throw Error(ErrorCode::kUnsupported, config.where() + ": " + spec.architecture);
}
}  // namespace moeopt
