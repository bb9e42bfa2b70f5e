#include "text/normalizer.h"

#include <variant>
#include <vector>

#include "text/nfc.h"
#include "text/pattern.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kMostGrowth = 64;
constexpr std::size_t kGrowthBaseBytes = 65536;

struct Nfc {};

struct Prepend {
  std::string text;
};

struct Replace {
  Pattern pattern;
  std::string content;
};

using Step = std::variant<Nfc, Prepend, Replace>;

void read_steps(const JsonField& field, std::vector<Step>& steps) {
  if (steps.size() >= kMostSteps) field.invalid("too many normalizers");
  const std::string& type = field.at("type").string();
  if (type == "Sequence") {
    const JsonField list = field.at("normalizers");
    for (std::size_t i = 0; i < list.array_size(); ++i) read_steps(list.element(i), steps);
  } else if (type == "NFC") {
    steps.emplace_back(Nfc{});
  } else if (type == "Prepend") {
    steps.emplace_back(Prepend{field.at("prepend").string()});
  } else if (type == "Replace") {
    steps.emplace_back(Replace{Pattern(field.at("pattern")), field.at("content").string()});
  } else {
    field.unsupported(fmt::format("normalizer \"{}\"", type));
  }
}

// Applies one step; nothing when the text stays as it is.
class Applier {
 public:
  Applier(RegexBudget& budget, std::size_t input_bytes)
      : budget_(budget), most_bytes_(kGrowthBaseBytes + kMostGrowth * input_bytes) {}

  bool apply(const Nfc&, std::string_view text, std::string& out) const {
    return normalize_nfc(text, out);
  }

  bool apply(const Prepend& step, std::string_view text, std::string& out) const {
    if (text.empty() || step.text.empty()) return false;
    out = step.text;
    out += text;
    check(out);
    return true;
  }

  bool apply(const Replace& step, std::string_view text, std::string& out) const {
    out.clear();
    std::size_t copied = 0;
    bool changed = false;
    step.pattern.for_each_match(text, budget_, [&](const RegexMatch& match) {
      out.append(text, copied, match.begin - copied);
      out += step.content;
      check(out);
      copied = match.end;
      changed = true;
    });
    if (changed) out.append(text, copied);
    return changed;
  }

 private:
  void check(const std::string& out) const {
    if (out.size() > most_bytes_) {
      throw_error(ErrorCode::kInvalidData,
                  "the tokenizer's normalizer makes more than {} bytes of a text", most_bytes_);
    }
  }

  RegexBudget& budget_;
  std::size_t most_bytes_;
};

}  // namespace

struct Normalizer::Steps {
  std::vector<Step> list;
};

Normalizer::Normalizer() : steps_(std::make_unique<const Steps>()) {}

Normalizer::Normalizer(const std::optional<JsonField>& field) {
  auto steps = std::make_unique<Steps>();
  if (field) read_steps(*field, steps->list);
  steps_ = std::move(steps);
}

Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

std::string_view Normalizer::apply(std::string_view text, std::string& storage,
                                   RegexBudget& budget) const {
  const Applier applier(budget, text.size());
  std::string next;
  for (const Step& step : steps_->list) {
    const bool changed =
        std::visit([&](const auto& kind) { return applier.apply(kind, text, next); }, step);
    if (!changed) continue;
    std::swap(storage, next);
    text = storage;
  }
  return text;
}

}  // namespace moeopt
