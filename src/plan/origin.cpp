#include "plan/settings.h"

namespace moeopt {

std::string Origin::text() const {
  return where.empty() ? "default" : where;
}

std::string_view kv_dtype_name(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::kAuto:
      return "auto";
    case KvDtype::kBf16:
      return "bf16";
    case KvDtype::kF32:
      return "f32";
    case KvDtype::kFp8:
      return "fp8";
  }
  return "?";
}

std::string_view ask_name(Ask ask) {
  switch (ask) {
    case Ask::kOff:
      return "off";
    case Ask::kPrefer:
      return "prefer";
    case Ask::kRequire:
      return "require";
  }
  return "?";
}

}  // namespace moeopt
