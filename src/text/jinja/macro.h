// A macro as a value: its definition and the block it was defined in.
#pragma once

#include <memory>
#include <string>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct MacroStatement;
struct Scope;

struct Macro : Object {
  Macro(Runtime& runtime, const MacroStatement& statement, std::shared_ptr<Scope> around)
      : Object(runtime, sizeof(Macro)), definition(&statement), scope(std::move(around)) {}

  // As Jinja prints it: <Macro 'name'>.
  std::string describe() const;

  const MacroStatement* definition;
  std::shared_ptr<Scope> scope;
};

}  // namespace moeopt::jinja
