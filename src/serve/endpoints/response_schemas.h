// JSON schemas of what the endpoints answer, for the OpenAPI document.
// Invariant: closed. A member that an answer has and its schema does not name is an error, which
// tests/server/test_openapi.py finds on the running program.
#pragma once

#include "base/json.h"

namespace moeopt::serve {

// Under the names that openapi.cpp gives the routes: an object to put into components/schemas.
OrderedJson response_schemas();

OrderedJson schema_reference(std::string_view name);

}  // namespace moeopt::serve
