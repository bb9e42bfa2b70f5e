// `moeopt eval`: logits, greedy ids, perplexity and answers of a model.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cli/evaluation.h"
#include "cli/generate.h"
#include "cli/npy.h"
#include "cli/routing_flags.h"
#include "cli/session.h"
#include "cli/settings_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace moeopt::cli {
namespace {

constexpr std::size_t kTextLimitBytes = std::size_t{256} << 20;

struct EvalFlags {
  std::string model;
  std::string backend = "cpu";
  std::vector<std::int32_t> ids;
  std::string logits, perplexity, answers, details;
  int greedy = 0;
  int max_tokens = 200;
  bool json = false;
  SettingsFlags settings;
  RoutingFlags routing;
};

void write_logits(Session& session, const EvalFlags& flags) {
  const auto vocab = static_cast<std::size_t>(session.spec().vocab);
  std::vector<float> rows;
  rows.reserve(flags.ids.size() * vocab);
  session.score(flags.ids, [&rows](int, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  });
  write_file(flags.logits, npy_bytes(rows, flags.ids.size(), vocab));
}

std::vector<std::int32_t> greedy_ids(Session& session, const EvalFlags& flags) {
  Request request;
  request.prompt = flags.ids;
  request.sampling.temperature = 0;
  request.max_tokens = flags.greedy;
  request.ignore_eos = true;
  std::vector<std::int32_t> ids;
  for (const GeneratedToken& token : generate(session, std::move(request)).tokens) {
    ids.push_back(token.id);
  }
  return ids;
}

void write_details(const EvalFlags& flags, const std::vector<Question>& questions,
                   const Accuracy& accuracy) {
  std::string text;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const nlohmann::ordered_json row = {
        {"question", questions[i].question},
        {"answer", questions[i].answer},
        {"text", accuracy.texts[i]},
        {"right", final_answer(accuracy.texts[i]) == questions[i].answer}};
    text += row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  write_file(flags.details, std::as_bytes(std::span(text)));
}

int eval(const EvalFlags& flags) {
  if (flags.logits.empty() && flags.greedy == 0 && flags.perplexity.empty() &&
      flags.answers.empty()) {
    throw Error(ErrorCode::kUsage, "nothing to evaluate",
                "ask for --logits, --greedy, --perplexity or --answers");
  }
  if ((!flags.logits.empty() || flags.greedy > 0) && flags.ids.empty()) {
    throw Error(ErrorCode::kUsage, "--logits and --greedy need --ids");
  }
  SessionOptions options;
  options.model = flags.model;
  options.backend = flags.backend;
  options.settings = flags.settings.load();
  const bool needs_text = !flags.perplexity.empty() || !flags.answers.empty();
  options.with_text = needs_text;
  options.record_routes = flags.routing.wanted();
  Session session(std::move(options));
  if (needs_text) session.require_tokenizer();
  session.start();
  const auto routing = flags.routing.start(session);

  nlohmann::ordered_json out;
  std::string text;
  if (!flags.logits.empty()) {
    write_logits(session, flags);
    out["logits"] = flags.logits;
    text += fmt::format("logits      {} [{}, {}]\n", flags.logits, flags.ids.size(),
                        session.spec().vocab);
  }
  if (flags.greedy > 0) {
    const auto ids = greedy_ids(session, flags);
    out["ids"] = ids;
    text += fmt::format("ids         {}\n", fmt::join(ids, ","));
  }
  if (!flags.perplexity.empty()) {
    Progress progress("perplexity");
    const auto ids =
        session.require_tokenizer().encode(read_file(flags.perplexity, kTextLimitBytes), false);
    const Perplexity result =
        perplexity(session, ids, [&progress](double fraction) { progress.update(fraction, ""); });
    out["perplexity"] = result.value;
    out["scored_tokens"] = result.scored;
    text += fmt::format("perplexity  {:.4f} over {} tokens, windows of {}\n", result.value,
                        result.scored, kPerplexityWindow);
  }
  if (!flags.answers.empty()) {
    Progress progress("answers");
    const auto questions = read_questions(flags.answers);
    const Accuracy result = ask(session, questions, flags.max_tokens,
                                [&progress](double fraction) { progress.update(fraction, ""); });
    if (!flags.details.empty()) write_details(flags, questions, result);
    out["accuracy"] = static_cast<double>(result.right) / static_cast<double>(result.asked);
    out["right"] = result.right;
    out["asked"] = result.asked;
    text +=
        fmt::format("accuracy    {:.1f}% ({} of {})\n",
                    100.0 * static_cast<double>(result.right) / static_cast<double>(result.asked),
                    result.right, result.asked);
  }
  out["backend"] = session.backend().name();
  if (routing) text += routing->finish(out);
  write_output(flags.json ? out.dump() + "\n" : text);
  return routing ? routing->exit_code() : 0;
}

}  // namespace

void add_eval(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* verb = program.add_subcommand("eval", "Measure a model: logits, perplexity, answers");
  verb->add_option("model", flags->model, "Folder or name")->required()->envname("MOEOPT_MODEL");
  verb->add_option("--backend", flags->backend, "cpu, or reference (slow, the specification)")
      ->check(CLI::IsMember({"cpu", "reference", "cuda"}))
      ->envname("MOEOPT_BACKEND");
  verb->add_option("--ids", flags->ids, "Token ids: 1,2,3")->delimiter(',')->type_name("IDS");
  verb->add_option("--logits", flags->logits, "Write every position's logits (float32 .npy)")
      ->type_name("OUT.npy");
  verb->add_option("--greedy", flags->greedy, "Continue --ids greedily by N tokens")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  verb->add_option("--perplexity", flags->perplexity, "Perplexity of a text")->type_name("FILE");
  verb->add_option("--answers", flags->answers, "Accuracy on {question, answer} lines, greedily")
      ->type_name("FILE.jsonl");
  verb->add_option("--details", flags->details, "With --answers: what was said, a line each")
      ->type_name("OUT.jsonl");
  verb->add_option("--max-tokens", flags->max_tokens, "With --answers: of each answer")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--json", flags->json, "One JSON object");
  flags->settings.add_to(*verb);
  flags->routing.add_to(*verb);
  verb->callback([flags, &exit_code] { exit_code = eval(*flags); });
}

}  // namespace moeopt::cli
