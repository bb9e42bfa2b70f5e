#include "text/pre_tokenizer.h"

#include <string>
#include <variant>
#include <vector>

#include "text/pattern.h"
#include "text/split_behavior.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostSteps = 64;

// GPT-2's own expression, which ByteLevel uses unless told not to.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Piece {
  std::string_view text;
  bool at_start;
};

struct ByteLevel {
  bool add_prefix_space;
  std::optional<Regex> regex;
};

struct Split {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;
};

struct Digits {
  bool individual;
};

struct Punctuation {
  SplitBehavior behavior;
};

enum class Prepend { kFirst, kNever, kAlways };

struct Metaspace {
  std::string replacement;
  Prepend prepend;
  bool split;
};

using Step = std::variant<ByteLevel, Split, Digits, Punctuation, Metaspace>;

Metaspace read_metaspace(const JsonField& field) {
  Metaspace step{"", Prepend::kAlways, field.flag("split", true)};
  append_utf8(step.replacement, field.at("replacement").character());
  if (const auto scheme = field.find("prepend_scheme")) {
    const std::string& name = scheme->string();
    if (name == "first") {
      step.prepend = Prepend::kFirst;
    } else if (name == "never") {
      step.prepend = Prepend::kNever;
    } else if (name != "always") {
      scheme->unsupported(fmt::format("\"{}\"", name));
    }
    if (!field.flag("add_prefix_space", true) && step.prepend != Prepend::kNever) {
      scheme->invalid("does not agree with add_prefix_space");
    }
  } else if (!field.flag("add_prefix_space", true)) {
    step.prepend = Prepend::kNever;
  }
  return step;
}

ByteLevel read_byte_level(const JsonField& field) {
  ByteLevel step{field.at("add_prefix_space").boolean(), std::nullopt};
  if (field.flag("use_regex", true)) step.regex.emplace(kGpt2Pattern, field.name());
  return step;
}

void read_steps(const JsonField& field, std::vector<Step>& steps) {
  if (steps.size() >= kMostSteps) field.invalid("too many pre-tokenizers");
  const std::string& type = field.at("type").string();
  if (type == "Sequence") {
    const JsonField list = field.at("pretokenizers");
    for (std::size_t i = 0; i < list.array_size(); ++i) read_steps(list.element(i), steps);
    return;
  }
  if (!steps.empty() && std::holds_alternative<ByteLevel>(steps.back())) {
    field.unsupported(fmt::format("\"{}\" after ByteLevel", type));
  }
  if (type == "ByteLevel") {
    steps.emplace_back(read_byte_level(field));
  } else if (type == "Split") {
    steps.emplace_back(Split{Pattern(field.at("pattern")),
                             read_split_behavior(field.at("behavior")),
                             field.flag("invert", false)});
  } else if (type == "Digits") {
    steps.emplace_back(Digits{field.flag("individual_digits", false)});
  } else if (type == "Punctuation") {
    const auto behavior = field.find("behavior");
    steps.emplace_back(
        Punctuation{behavior ? read_split_behavior(*behavior) : SplitBehavior::kIsolated});
  } else if (type == "Metaspace") {
    steps.emplace_back(read_metaspace(field));
  } else {
    field.unsupported(fmt::format("pre-tokenizer \"{}\"", type));
  }
}

// Takes one text through all steps, depth first: no list of pieces is ever built.
class Runner {
 public:
  Runner(std::span<const Step> steps, RegexBudget& budget, WordSink& sink)
      : steps_(steps), budget_(budget), sink_(sink) {}

  void run(std::size_t step, const Piece& piece) {
    if (piece.text.empty()) return;
    if (step == steps_.size()) return sink_.word(piece.text);
    std::visit([&](const auto& kind) { apply(kind, step + 1, piece); }, steps_[step]);
  }

 private:
  void run_part(std::size_t next, const Piece& piece, std::size_t begin, std::size_t end) {
    run(next, {piece.text.substr(begin, end - begin), piece.at_start && begin == 0});
  }

  auto folder(SplitBehavior behavior, std::size_t next, const Piece& piece) {
    return SplitFolder(behavior, [this, next, &piece](std::size_t begin, std::size_t end) {
      run_part(next, piece, begin, end);
    });
  }

  void apply(const ByteLevel& step, std::size_t next, const Piece& piece) {
    std::string prefixed;
    Piece whole = piece;
    if (step.add_prefix_space && !piece.text.starts_with(' ')) {
      prefixed = " ";
      prefixed += piece.text;
      whole.text = prefixed;
    }
    if (!step.regex) return run(next, whole);
    Regex::Search search(*step.regex, whole.text, budget_);
    std::size_t done = 0;
    for (RegexMatch match; search.next(match); done = match.end) {
      if (done != match.begin) run_part(next, whole, done, match.begin);
      run_part(next, whole, match.begin, match.end);
    }
    run_part(next, whole, done, whole.text.size());
  }

  void apply(const Split& step, std::size_t next, const Piece& piece) {
    auto out = folder(step.behavior, next, piece);
    std::size_t done = 0;
    step.pattern.for_each_match(piece.text, budget_, [&](const RegexMatch& match) {
      if (done != match.begin) out.add(done, match.begin, step.invert);
      out.add(match.begin, match.end, !step.invert);
      done = match.end;
    });
    if (done != piece.text.size()) out.add(done, piece.text.size(), step.invert);
    out.finish();
  }

  template <typename IsMatch>
  void split_characters(SplitBehavior behavior, std::size_t next, const Piece& piece,
                        IsMatch is_match) {
    auto out = folder(behavior, next, piece);
    std::size_t done = 0;
    for (std::size_t at = 0; at < piece.text.size();) {
      const DecodedCharacter character = decode_utf8(piece.text, at);
      const std::size_t end = at + character.size_bytes;
      if (is_match(character.code_point)) {
        if (done != at) out.add(done, at, false);
        out.add(at, end, true);
        done = end;
      }
      at = end;
    }
    if (done != piece.text.size()) out.add(done, piece.text.size(), false);
    out.finish();
  }

  void apply(const Digits& step, std::size_t next, const Piece& piece) {
    split_characters(step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, next,
                     piece, is_numeric);
  }

  void apply(const Punctuation& step, std::size_t next, const Piece& piece) {
    split_characters(step.behavior, next, piece, is_punctuation);
  }

  void apply(const Metaspace& step, std::size_t next, const Piece& piece) {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2 + step.replacement.size());
    const bool prepend =
        step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && piece.at_start);
    if (prepend && !piece.text.starts_with(' ') && !piece.text.starts_with(step.replacement)) {
      text = step.replacement;
    }
    for (const char c : piece.text) {
      if (c == ' ') {
        text += step.replacement;
      } else {
        text.push_back(c);
      }
    }
    const Piece whole{text, piece.at_start};
    if (!step.split) return run(next, whole);
    // Each replacement opens a piece.
    std::size_t begin = 0;
    while (begin < text.size()) {
      const std::size_t end = std::min(text.find(step.replacement, begin + 1), text.size());
      run_part(next, whole, begin, end);
      begin = end;
    }
  }

  std::span<const Step> steps_;
  RegexBudget& budget_;
  WordSink& sink_;
};

}  // namespace

SplitBehavior read_split_behavior(const JsonField& field) {
  const std::string& name = field.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  field.unsupported(fmt::format("behavior \"{}\"", name));
}

struct PreTokenizer::Steps {
  std::vector<Step> list;
};

PreTokenizer::PreTokenizer(const std::optional<JsonField>& field) {
  auto steps = std::make_unique<Steps>();
  if (field) read_steps(*field, steps->list);
  byte_level_ = !steps->list.empty() && std::holds_alternative<ByteLevel>(steps->list.back());
  steps_ = std::move(steps);
}

PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, bool at_start, RegexBudget& budget,
                         WordSink& sink) const {
  Runner(steps_->list, budget, sink).run(0, {text, at_start});
}

}  // namespace moeopt
