#include "text/decoder.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "text/byte_alphabet.h"
#include "text/decoder_steps.h"
#include "text/pattern.h"
#include "text/utf8.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kMostTokenBytes = 65536;  // of a token whose text a Replace makes longer

struct Replace {
  Pattern pattern;
  std::string content;
  std::string name;  // of the field, for messages

  std::string apply(std::string_view token) const {
    std::string out;
    std::size_t copied = 0;
    RegexBudget budget(token.size());
    pattern.for_each_match(token, budget, [&](const RegexMatch& match) {
      out.append(token, copied, match.begin - copied);
      out += content;
      copied = match.end;
      if (out.size() > kMostTokenBytes + token.size()) {
        throw_error(ErrorCode::kInvalidData, "{}: makes more than {} bytes of one token", name,
                    kMostTokenBytes);
      }
    });
    out.append(token, copied);
    return out;
  }
};

struct Metaspace {
  std::string replacement;
  bool drops_first;

  std::string with_spaces(std::string_view token, bool drops = false) const {
    std::string text;
    std::size_t copied = 0;
    for (std::size_t found = token.find(replacement); found != std::string_view::npos;
         found = token.find(replacement, copied)) {
      text += token.substr(copied, found - copied);
      if (!drops) text += ' ';
      copied = found + replacement.size();
    }
    text += token.substr(copied);
    return text;
  }
};

struct Join {};
struct Bytes {};
struct ByteFallback {};
struct Fuse {};

using Step = std::variant<Replace, StripRule, Metaspace, Join, Bytes, ByteFallback, Fuse>;

Metaspace read_metaspace(const JsonField& field) {
  Metaspace step{"", field.flag("add_prefix_space", true)};
  append_utf8(step.replacement, field.at("replacement").character());
  if (const auto scheme = field.find("prepend_scheme")) {
    step.drops_first = scheme->string() != "never";
  }
  return step;
}

void read_steps(const JsonField& field, std::vector<Step>& steps, bool& fused) {
  if (steps.size() >= kMostSteps) field.invalid("too many decoders");
  const std::string& type = field.at("type").string();
  if (type == "Sequence") {
    const JsonField list = field.at("decoders");
    for (std::size_t i = 0; i < list.array_size(); ++i) read_steps(list.element(i), steps, fused);
    return;
  }
  if (fused && type != "Strip" && type != "Fuse") {
    field.unsupported(fmt::format("decoder \"{}\" after one that joins the tokens", type));
  }
  if (type == "ByteLevel") {
    steps.emplace_back(Bytes{});
    fused = true;
  } else if (type == "Replace") {
    steps.emplace_back(
        Replace{Pattern(field.at("pattern")), field.at("content").string(), field.name()});
  } else if (type == "ByteFallback") {
    steps.emplace_back(ByteFallback{});
  } else if (type == "Fuse") {
    steps.emplace_back(Fuse{});
    fused = true;
  } else if (type == "Strip") {
    StripRule rule;
    append_utf8(rule.content, field.at("content").character());
    rule.start = static_cast<std::size_t>(field.at("start").integer(0, 1 << 20));
    rule.stop = static_cast<std::size_t>(field.at("stop").integer(0, 1 << 20));
    rule.fused = fused;
    steps.emplace_back(std::move(rule));
  } else if (type == "Metaspace") {
    steps.emplace_back(read_metaspace(field));
  } else {
    field.unsupported(fmt::format("decoder \"{}\"", type));
  }
}

// Whether a step looks at one token alone, whatever stands before it.
bool is_stateless(const Step& step) {
  const auto* strip = std::get_if<StripRule>(&step);
  return std::holds_alternative<Replace>(step) || (strip != nullptr && !strip->fused);
}

}  // namespace

struct Decoder::Steps {
  std::vector<Step> list;
  std::size_t first_in_stream = 0;  // the steps before it are applied by prepare()
};

Decoder::Decoder(const std::optional<JsonField>& field) {
  auto steps = std::make_unique<Steps>();
  bool fused = false;
  if (field) {
    read_steps(*field, steps->list, fused);
  } else {
    steps->list.emplace_back(Join{});
  }
  const auto first = std::find_if_not(steps->list.begin(), steps->list.end(), is_stateless);
  steps->first_in_stream = static_cast<std::size_t>(first - steps->list.begin());
  steps_ = std::move(steps);
}

Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

std::string Decoder::prepare(std::string_view token) const {
  std::string text(token);
  const auto& [list, first_in_stream] = *steps_;
  for (std::size_t i = 0; i < first_in_stream; ++i) {
    if (const auto* replace = std::get_if<Replace>(&list[i])) {
      text = replace->apply(text);
    } else {
      text = strip_token(std::get<StripRule>(list[i]), text);
    }
  }
  if (first_in_stream < list.size() && std::holds_alternative<Bytes>(list[first_in_stream])) {
    if (auto bytes = byte_level_bytes(text)) text = std::move(*bytes);
  }
  return text;
}

std::string Decoder::bytes(std::string_view prepared) const {
  const auto& [list, first_in_stream] = *steps_;
  std::string text(prepared);
  for (std::size_t i = first_in_stream; i < list.size(); ++i) {
    if (std::holds_alternative<Join>(list[i])) {
      throw_error(ErrorCode::kUnsupported,
                  "a tokenizer whose tokens are joined by spaces cannot be constrained");
    }
    if (std::holds_alternative<ByteFallback>(list[i])) {
      ByteRun run;
      if (run.take(text)) return run.bytes();
    } else if (std::holds_alternative<Bytes>(list[i])) {
      if (i == first_in_stream) continue;  // prepare() did it
      if (auto bytes = byte_level_bytes(text)) text = std::move(*bytes);
    } else if (const auto* replace = std::get_if<Replace>(&list[i])) {
      text = replace->apply(text);
    } else if (const auto* metaspace = std::get_if<Metaspace>(&list[i])) {
      text = metaspace->with_spaces(text);
    } else if (const auto* strip = std::get_if<StripRule>(&list[i]); strip && !strip->fused) {
      text = strip_token(*strip, text);
    }
  }
  return text;
}

// One pass over a sequence of tokens: a state for each step.
class Decoder::Stream::Run {
 public:
  explicit Run(const Steps& steps) : steps_(steps), states_(steps.list.size()) {}

  std::size_t first() const { return steps_.first_in_stream; }

  void push(std::size_t at, std::string_view token, std::string& out) {
    if (at == steps_.list.size()) {
      out += token;
      return;
    }
    std::visit([&](const auto& step) { apply(step, at, token, out); }, steps_.list[at]);
  }

  void finish(std::string& out) {
    for (std::size_t at = steps_.first_in_stream; at < steps_.list.size(); ++at) {
      const Step& step = steps_.list[at];
      if (std::holds_alternative<ByteFallback>(step)) {
        states_[at].byte_run.flush([&](std::string_view text) { push(at + 1, text, out); });
      } else if (std::holds_alternative<Bytes>(step)) {
        // A character that never came to its end.
        push(at + 1, repair_utf8(std::exchange(states_[at].bytes, {})), out);
      }  // What a fused Strip holds back stays cut off.
    }
  }

 private:
  struct State {
    bool started = false;
    std::string bytes;
    ByteRun byte_run;
    FusedStrip strip;
  };

  void apply(const Replace& step, std::size_t at, std::string_view token, std::string& out) {
    push(at + 1, step.apply(token), out);
  }

  void apply(const StripRule& rule, std::size_t at, std::string_view token, std::string& out) {
    const std::string rest =
        rule.fused ? states_[at].strip.push(rule, token) : strip_token(rule, token);
    push(at + 1, rest, out);
  }

  void apply(const Metaspace& step, std::size_t at, std::string_view token, std::string& out) {
    const bool drops = !states_[at].started && step.drops_first;
    states_[at].started = true;
    push(at + 1, step.with_spaces(token, drops), out);
  }

  void apply(const Join&, std::size_t at, std::string_view token, std::string& out) {
    if (states_[at].started) push(at + 1, " ", out);
    states_[at].started = true;
    push(at + 1, token, out);
  }

  void apply(const Bytes&, std::size_t at, std::string_view token, std::string& out) {
    std::string& bytes = states_[at].bytes;
    std::optional<std::string> mapped;
    if (at != steps_.first_in_stream) mapped = byte_level_bytes(token);
    if (mapped) token = *mapped;
    if (bytes.empty() && is_valid_utf8(token)) return push(at + 1, token, out);
    bytes += token;
    const std::size_t complete = complete_utf8_prefix(bytes);
    if (complete == 0) return;
    const std::string text = repair_utf8(std::string_view(bytes).substr(0, complete));
    bytes.erase(0, complete);
    push(at + 1, text, out);
  }

  void apply(const ByteFallback&, std::size_t at, std::string_view token, std::string& out) {
    ByteRun& run = states_[at].byte_run;
    if (run.take(token)) return;
    run.flush([&](std::string_view text) { push(at + 1, text, out); });
    push(at + 1, token, out);
  }

  void apply(const Fuse&, std::size_t at, std::string_view token, std::string& out) {
    push(at + 1, token, out);
  }

  const Steps& steps_;
  std::vector<State> states_;
};

Decoder::Stream::Stream(const Decoder& decoder) : run_(std::make_unique<Run>(*decoder.steps_)) {}
Decoder::Stream::Stream(Stream&&) noexcept = default;
Decoder::Stream& Decoder::Stream::operator=(Stream&&) noexcept = default;
Decoder::Stream::~Stream() = default;

void Decoder::Stream::push(std::string_view prepared, std::string& out) {
  run_->push(run_->first(), prepared, out);
}

void Decoder::Stream::finish(std::string& out) {
  run_->finish(out);
}

}  // namespace moeopt
