// The normalizer of a tokenizer.json: NFC, Prepend, Replace and Sequence of these.
// Invariant: valid UTF-8 in, valid UTF-8 out, at most kMostGrowth times as long.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/json_field.h"
#include "text/regex.h"

namespace moeopt {

class Normalizer {
 public:
  // The identity.
  Normalizer();
  // From the field "normalizer"; Error(kUnsupported) naming a kind that is not read.
  explicit Normalizer(const std::optional<JsonField>& field);
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  // The normalized text: `text` itself where nothing changes, else a view of `storage`.
  std::string_view apply(std::string_view text, std::string& storage, RegexBudget& budget) const;

 private:
  struct Steps;
  std::unique_ptr<const Steps> steps_;
};

}  // namespace moeopt
