// `moeopt run`: one answer, or a conversation on a terminal.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/chat_loop.h"
#include "cli/generate.h"
#include "cli/report.h"
#include "cli/routing_flags.h"
#include "cli/run_options.h"
#include "cli/session.h"
#include "cli/settings_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "plan/report.h"

namespace moeopt::cli {
namespace {

struct RunFlags {
  std::string model;
  std::string backend = "cpu";
  std::string prompt, chat, system;
  bool json = false, report = false, dry_run = false;
  SamplingFlags sampling;
  SettingsFlags settings;
  RoutingFlags routing;
  CLI::Option* prompt_option = nullptr;
  CLI::Option* chat_option = nullptr;
};

nlohmann::ordered_json messages_of(const RunFlags& flags) {
  auto messages = nlohmann::ordered_json::array();
  if (!flags.system.empty()) messages.push_back({{"role", "system"}, {"content", flags.system}});
  messages.push_back({{"role", "user"}, {"content", flags.chat}});
  return messages;
}

RunReport report_of(Session& session) {
  return {session.folder().name,    &session.spec(),         &session.plan(),
          session.backend().name(), session.optimisations(), &session.engine().expert_counts()};
}

void print_json(Session& session, const Generated& generated, bool with_logprobs) {
  nlohmann::ordered_json out;
  out["text"] = generated.text;
  out["ids"] = nlohmann::ordered_json::array();
  for (const GeneratedToken& token : generated.tokens) out["ids"].push_back(token.id);
  if (with_logprobs) {
    out["logprobs"] = nlohmann::ordered_json::array();
    for (const GeneratedToken& token : generated.tokens) {
      nlohmann::ordered_json entry = {{"id", token.id}, {"logprob", token.logprob}};
      entry["top"] = nlohmann::ordered_json::array();
      for (const TokenLogprob& top : token.top) {
        entry["top"].push_back({{"id", top.id}, {"logprob", top.logprob}});
      }
      out["logprobs"].push_back(std::move(entry));
    }
  }
  out["finish_reason"] = finish_reason_name(generated.finish);
  out["prompt_tokens"] = generated.n_prompt;
  out["output_tokens"] = generated.tokens.size();
  out["first_token_s"] = generated.first_token_s;
  out["total_s"] = generated.total_s;
  out["backend"] = session.backend().name();
  out["optimisations"] = optimisations_json(session.optimisations());
  write_output(out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

int answer(const RunFlags& flags, Session& session, Request request) {
  const InterruptGuard interrupt;
  const auto stream = [](std::string_view text) { write_output(text); };
  const Generated generated = flags.json ? generate(session, std::move(request))
                                         : generate(session, std::move(request), stream);
  if (flags.json) {
    print_json(session, generated, flags.sampling.logprobs.has_value());
  } else {
    if (!generated.text.empty() && generated.text.back() != '\n') write_output("\n");
    fmt::print(stderr, "{}\n", styled(stderr, Style::kDim, summary_line(generated)));
  }
  if (flags.report) write_output("\n" + report_text(report_of(session)));
  if (generated.finish == FinishReason::kError) {
    throw Error(ErrorCode::kInvalidData, "the model's logits are not finite");
  }
  return generated.finish == FinishReason::kCancelled ? kInterruptedExit : 0;
}

int run(RunFlags& flags) {
  SessionOptions options;
  options.model = flags.model;
  options.backend = flags.backend;
  options.settings = flags.settings.load();
  options.record_routes = flags.routing.wanted();
  Session session(std::move(options));
  if (flags.dry_run) {
    write_output(
        flags.json ? plan_json(session.plan(), session.spec(), session.folder().name).dump(2) + "\n"
                   : plan_text(session.plan(), session.spec(), session.folder().name));
    return 0;
  }
  Request request = flags.sampling.request(session.defaults());
  const bool interactive = flags.chat_option->empty() && flags.prompt_option->empty() &&
                           is_terminal(stdin) && is_terminal(stdout) && !flags.json;
  if (interactive) {
    session.require_tokenizer();
    session.start();
    const auto make_request = [&] { return flags.sampling.request(session.defaults()); };
    const auto routing = flags.routing.start(session);
    const int code = chat_loop(session, make_request, flags.system);
    if (routing) routing->finish_aloud();
    if (flags.report) write_output("\n" + report_text(report_of(session)));
    return code;
  }
  if (!flags.chat_option->empty()) {
    request.prompt = session.encode_chat(messages_of(flags));
  } else {
    if (flags.prompt_option->empty()) {
      flags.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    }
    request.prompt = session.encode_prompt(flags.prompt);
  }
  session.start();
  const auto routing = flags.routing.start(session);
  const int code = answer(flags, session, std::move(request));
  if (!routing) return code;
  routing->finish_aloud();
  return code != 0 ? code : routing->exit_code();
}

}  // namespace

void add_run(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = program.add_subcommand("run", "Let a model answer, here and now");
  verb->add_option("model", flags->model, "Folder or name")->required()->envname("MOEOPT_MODEL");
  flags->prompt_option = verb->add_option("-p,--prompt", flags->prompt, "Text to continue")
                             ->type_name("TEXT")
                             ->envname("MOEOPT_PROMPT");
  flags->chat_option = verb->add_option("-c,--chat", flags->chat, "A user's message to answer")
                           ->type_name("TEXT")
                           ->excludes(flags->prompt_option)
                           ->envname("MOEOPT_CHAT");
  verb->add_option("--system", flags->system, "System message of a chat")
      ->type_name("TEXT")
      ->envname("MOEOPT_SYSTEM");
  verb->add_option("--backend", flags->backend, "cpu, or reference (slow, the specification)")
      ->check(CLI::IsMember({"cpu", "reference", "cuda"}))
      ->envname("MOEOPT_BACKEND");
  verb->add_flag("--json", flags->json, "One JSON object instead of a stream")
      ->envname("MOEOPT_JSON");
  verb->add_flag("--report", flags->report, "Say afterwards what was planned, applied and used")
      ->envname("MOEOPT_REPORT");
  verb->add_flag("--dry-run", flags->dry_run, "Plan only: read no weights")
      ->envname("MOEOPT_DRY_RUN");
  flags->sampling.add_to(*verb);
  flags->settings.add_to(*verb);
  flags->routing.add_to(*verb);
  verb->footer(
      "Without --prompt and --chat: a conversation on a terminal, else the prompt is read\n"
      "from standard input.");
  verb->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace moeopt::cli
