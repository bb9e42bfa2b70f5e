// The OpenAPI document of this server; docs/openapi.json is a copy of it, held equal by a test.
#pragma once

#include <string_view>

#include "base/json.h"

namespace moeopt::serve {

OrderedJson openapi_document(std::string_view version);

}  // namespace moeopt::serve
