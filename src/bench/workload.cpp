#include "bench/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/strings.h"
#include "bench/dataset.h"
#include "bench/random.h"

namespace moeopt::bench {
namespace {

constexpr std::size_t kBodiesLimitBytes = std::size_t{1} << 30;

constexpr std::array<std::string_view, 120> kWords = {
    "the",   "of",    "and",   "to",      "in",      "that", "was",   "his",   "with",
    "for",   "had",   "you",   "not",     "be",      "her",  "is",    "at",    "by",
    "which", "have",  "or",    "from",    "this",    "him",  "but",   "all",   "she",
    "they",  "were",  "my",    "are",     "me",      "one",  "their", "so",    "an",
    "said",  "them",  "we",    "who",     "would",   "been", "will",  "no",    "when",
    "there", "if",    "more",  "out",     "up",      "into", "do",    "any",   "your",
    "what",  "has",   "man",   "could",   "other",   "than", "our",   "some",  "very",
    "time",  "upon",  "about", "may",     "its",     "only", "now",   "like",  "little",
    "then",  "can",   "made",  "should",  "did",     "us",   "such",  "great", "before",
    "must",  "two",   "these", "see",     "know",    "over", "much",  "down",  "after",
    "first", "good",  "men",   "own",     "never",   "most", "old",   "shall", "day",
    "where", "those", "came",  "come",    "himself", "way",  "work",  "life",  "without",
    "go",    "make",  "well",  "through", "being",   "long", "say",   "might", "how",
    "water", "river", "market"};

// 64-bit FNV-1a: tells workloads apart, keeps no secret.
class Digest {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    hash_ = (hash_ ^ 0xffu) * 0x100000001b3u;  // ends the piece: "ab","c" is not "a","bc"
  }
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

// Each use of randomness has its own stream: a change of one leaves the others as they were.
enum class Stream : std::uint64_t { kRequest = 1, kPrefix = 2, kArrival = 3, kWarmup = 4 };

Random stream(std::uint64_t seed, Stream of, std::uint64_t index = 0) {
  std::uint64_t mixed = seed;
  for (const std::uint64_t part : {static_cast<std::uint64_t>(of), index}) {
    mixed = (mixed ^ part) * 0x9e3779b97f4a7c15u;
    mixed ^= mixed >> 29;
  }
  return Random(mixed);
}

// Appends what stands for one token: an id, or a word.
OrderedJson draw_prompt(const PromptSource& source, Random prefix, int prefix_tokens,
                        Random& random, int tokens) {
  const auto id = [&source](Random& from) {
    return source.ids.empty() ? static_cast<std::int32_t>(
                                    from.below(static_cast<std::uint64_t>(source.vocab_size)))
                              : source.ids[from.below(source.ids.size())];
  };
  if (source.ids.empty() && source.vocab_size == 0) {
    std::string text;
    for (int i = 0; i < tokens; ++i) {
      Random& from = i < prefix_tokens ? prefix : random;
      if (i > 0) text += ' ';
      text += kWords[from.below(kWords.size())];
    }
    return text;
  }
  OrderedJson ids = OrderedJson::array();
  for (int i = 0; i < tokens; ++i) ids.push_back(id(i < prefix_tokens ? prefix : random));
  return ids;
}

class Maker {
 public:
  Maker(const WorkloadSpec& spec, const PromptSource& source, std::string_view model)
      : spec_(spec), source_(source), model_(model) {
    if (!spec.dataset.empty()) lines_ = read_dataset(spec.dataset);
  }

  PlannedRequest make(Stream of, int index) {
    Random random = stream(spec_.seed, of, static_cast<std::uint64_t>(index));
    const int prompt_tokens = spec_.prompt_tokens.draw(random);
    PlannedRequest request;
    request.output_tokens = spec_.output_tokens.draw(random);
    OrderedJson body = {{"model", model_}};
    bool is_chat = false;
    if (lines_.empty()) {
      body["prompt"] = draw_prompt(source_, stream(spec_.seed, Stream::kPrefix),
                                   spec_.shared_prefix_tokens, random, prompt_tokens);
    } else {
      const DatasetLine& line = lines_[static_cast<std::size_t>(index) % lines_.size()];
      is_chat = line.is_chat;
      body[is_chat ? "messages" : "prompt"] = line.content;
      if (line.output_tokens > 0) request.output_tokens = line.output_tokens;
    }
    body["max_tokens"] = request.output_tokens;
    body["temperature"] = spec_.temperature;
    if (spec_.temperature > 0) body["seed"] = spec_.seed + static_cast<std::uint64_t>(index);
    if (spec_.ignore_eos) body["ignore_eos"] = true;
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    request.path = is_chat ? "/v1/chat/completions" : "/v1/completions";
    request.body = body.dump();
    bytes_ += request.body.size();
    if (bytes_ > kBodiesLimitBytes) {
      throw Error(
          ErrorCode::kDoesNotFit,
          fmt::format("the workload's requests take more than {}", format_bytes(kBodiesLimitBytes)),
          "fewer --requests, or shorter --prompt-tokens");
    }
    return request;
  }

 private:
  const WorkloadSpec& spec_;
  const PromptSource& source_;
  std::string_view model_;
  std::vector<DatasetLine> lines_;
  std::size_t bytes_ = 0;
};

void check_spec(const WorkloadSpec& spec) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorCode::kUsage, what); };
  if (spec.requests < 1) refuse("--requests must be at least 1");
  if (spec.warmup < 0) refuse("--warmup must not be negative");
  if (!(spec.level > 0) || !std::isfinite(spec.level)) {
    refuse(fmt::format("--{} must be above 0", arrival_name(spec.arrival)));
  }
  if (!(spec.temperature >= 0) || !std::isfinite(spec.temperature)) {
    refuse("--temperature must not be negative");
  }
  if (spec.shared_prefix_tokens < 0) refuse("--shared-prefix must not be negative");
  if (spec.shared_prefix_tokens > 0 && !spec.dataset.empty()) {
    refuse("--shared-prefix is for made prompts, not for those of a --dataset");
  }
  if (spec.dataset.empty() && spec.shared_prefix_tokens >= spec.prompt_tokens.high()) {
    refuse(fmt::format("--shared-prefix {} leaves nothing of prompts of at most {} tokens",
                       spec.shared_prefix_tokens, spec.prompt_tokens.high()));
  }
}

}  // namespace

std::string_view arrival_name(Arrival arrival) {
  switch (arrival) {
    case Arrival::kBatch:
      return "batch";
    case Arrival::kConcurrency:
      return "concurrency";
    case Arrival::kRate:
      return "rate";
  }
  return "?";
}

std::string word_text() {
  return fmt::format("{}", fmt::join(kWords, " "));
}

Workload make_workload(const WorkloadSpec& spec, const PromptSource& source,
                       std::string_view model) {
  check_spec(spec);
  Maker maker(spec, source, model);
  Workload workload;
  for (int i = 0; i < spec.warmup; ++i) workload.warmup.push_back(maker.make(Stream::kWarmup, i));
  Random arrivals = stream(spec.seed, Stream::kArrival);
  double due_s = 0;
  Digest digest;
  for (int i = 0; i < spec.requests; ++i) {
    PlannedRequest request = maker.make(Stream::kRequest, i);
    if (spec.arrival == Arrival::kRate) {
      request.due_us = std::llround(due_s * 1e6);
      due_s += arrivals.exponential() / spec.level;
    }
    digest.add(fmt::format("{} {}", request.due_us, request.path));
    digest.add(request.body);
    workload.requests.push_back(std::move(request));
  }
  digest.add(fmt::format("{} {}", arrival_name(spec.arrival), spec.level));
  workload.digest = digest.text();
  return workload;
}

OrderedJson workload_json(const WorkloadSpec& spec, const PromptSource& source,
                          const Workload& workload) {
  OrderedJson json = {{"arrival", arrival_name(spec.arrival)},
                      {"level", spec.level},
                      {"requests", spec.requests},
                      {"warmup", spec.warmup}};
  if (spec.dataset.empty()) {
    json["prompt_tokens"] = spec.prompt_tokens.text();
    json["shared_prefix_tokens"] = spec.shared_prefix_tokens;
    json["prompts"] = source.description;
  } else {
    json["dataset"] = spec.dataset.filename().string();
  }
  json["output_tokens"] = spec.output_tokens.text();
  json["temperature"] = spec.temperature;
  json["ignore_eos"] = spec.ignore_eos;
  json["seed"] = spec.seed;
  json["digest"] = workload.digest;
  return json;
}

std::string workload_text(const WorkloadSpec& spec) {
  std::string text = fmt::format("{} requests, ", spec.requests);
  switch (spec.arrival) {
    case Arrival::kBatch:
      text += fmt::format("{} at once, the next when all have ended", spec.level);
      break;
    case Arrival::kConcurrency:
      text += fmt::format("{} at every moment", spec.level);
      break;
    case Arrival::kRate:
      text += fmt::format("{} a second on average (Poisson)", spec.level);
      break;
  }
  if (spec.dataset.empty()) {
    text += fmt::format("; prompts of {} tokens", spec.prompt_tokens.text());
    if (spec.shared_prefix_tokens > 0) {
      text += fmt::format(", the first {} shared", spec.shared_prefix_tokens);
    }
  } else {
    text += fmt::format("; prompts from {}", spec.dataset.filename().string());
  }
  return text + fmt::format(", answers of {}; seed {}", spec.output_tokens.text(), spec.seed);
}

}  // namespace moeopt::bench
