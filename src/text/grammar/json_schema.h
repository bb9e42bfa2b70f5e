// Compiles a JSON schema (the subset of draft 2020-12 below) to the rules of an automaton.
//
// Enforced: type (also a list), properties, required, additionalProperties, items, prefixItems,
// minItems, maxItems, minLength, maxLength, enum, const, anyOf, oneOf, allOf of one schema, $ref
// into the same document (also recursive), $defs, true and false. Passed over, as they say nothing
// about values: title, description, default, examples, deprecated, readOnly, writeOnly,
// discriminator, $schema, $id at the root, $comment, and names that begin with "x-". Every other
// keyword is an Error(kUnsupported) that names it and its path.
//
// Where a schema leaves a choice, the text has it made: members come in the order of `properties`,
// others after them; without `additionalProperties` there are none unless `properties` is absent
// too; an integer is written without fraction or exponent; enum and const values have one spelling;
// oneOf is read as anyOf; keywords of one type without `type` mean that type. So a value may be
// valid and still never be written; what is written is always valid, but for oneOf, and a free
// member's name may come twice. Invariant: time and memory are bounded by the size of the schema
// and by the limits of the builder.
#pragma once

#include <nlohmann/json.hpp>

#include "text/grammar/json_rules.h"
#include "text/grammar/pushdown.h"

namespace moeopt {

// The rule of a value of `schema`. Error(kInvalidData) and Error(kUnsupported) name the path.
StateId compile_json_schema(const nlohmann::ordered_json& schema, PushdownBuilder& builder,
                            JsonRules& rules);

}  // namespace moeopt
