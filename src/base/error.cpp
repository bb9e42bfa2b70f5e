#include "base/error.h"

namespace moeopt {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return 2;
    case ErrorCode::kDoesNotFit:
      return 3;
    case ErrorCode::kRequirement:
      return 4;
    case ErrorCode::kNotFound:
      return 5;
    case ErrorCode::kInvalidData:
      return 6;
    case ErrorCode::kUnsupported:
      return 7;
    case ErrorCode::kIo:
      return 8;
    case ErrorCode::kOverloaded:
      return 75;
    case ErrorCode::kUnavailable:
      return 69;
    case ErrorCode::kInternal:
      return 70;
  }
  return 70;
}

}  // namespace moeopt
