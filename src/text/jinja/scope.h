// The variables of one block, and the blocks around it.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace moeopt::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;
  // Names point into the template.
  std::vector<std::pair<std::string_view, Value>> variables;

  const Value* find(Runtime& runtime, std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
      runtime.step(1 + scope->variables.size() / 8);
      for (const auto& [key, value] : scope->variables) {
        if (key == name) return &value;
      }
    }
    return nullptr;
  }

  void set(Runtime& runtime, std::string_view name, Value value) {
    runtime.step(1 + variables.size() / 8);
    for (auto& [key, old] : variables) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    variables.emplace_back(name, std::move(value));
  }
};

}  // namespace moeopt::jinja
