// `moeopt serve`: the OpenAI API over HTTP, until a signal ends it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/routing_flags.h"
#include "cli/session.h"
#include "cli/settings_flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "plan/report.h"
#include "serve/server.h"
#include "text/jinja/parser.h"

namespace moeopt::cli {
namespace {

using std::chrono::milliseconds;

struct ServeFlags {
  std::string model;
  std::string backend = "cpu";
  serve::HttpOptions http;
  std::string api_key_file, log_file, log_format = "text", chat_template;
  std::vector<std::string> allowed_origins, served_names;
  double header_timeout_s = 10, body_timeout_s = 30, idle_timeout_s = 75, write_timeout_s = 30;
  double request_timeout_s = 0, queue_timeout_s = 0, drain_timeout_s = 30, stuck_after_s = 30;
  int max_waiting = 1024;
  std::size_t max_body_mb = 8;
  bool log_prompts = false, dry_run = false, json = false;
  SettingsFlags settings;
  RoutingFlags routing;
};

milliseconds to_ms(double seconds) {
  return milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string url_of(const ServeFlags& flags, int port) {
  const bool v6 = flags.http.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", flags.http.host, v6 ? "]" : "", port);
}

std::shared_ptr<serve::ServedModel> served_model(const ServeFlags& flags, Session& session,
                                                 const LoadedChatTemplate* chat_template) {
  auto model = std::make_shared<serve::ServedModel>();
  model->names = flags.served_names;
  if (model->names.empty()) model->names.push_back(session.folder().name);
  model->tokenizer = &session.require_tokenizer();
  model->chat_template = chat_template;
  model->sampling = session.defaults().sampling;
  model->max_tokens = session.defaults().max_tokens;
  model->stop_ids = session.defaults().stop_ids;
  model->max_model_len = static_cast<int>(session.plan().limits.max_model_len);
  model->vocab = session.spec().vocab;
  model->architecture = session.spec().architecture;
  model->backend = session.backend().name();
  model->plan = plan_json(session.plan(), session.spec(), session.folder().name);
  model->engine = &session.serve({.max_waiting = flags.max_waiting,
                                  .queue_timeout = to_ms(flags.queue_timeout_s),
                                  .stuck_after = to_ms(flags.stuck_after_s)});
  model->optimisations = [&session] { return session.optimisations(); };
  return model;
}

// --chat-template FILE, with the special tokens of the model's own folder.
// What `read` gives; what is wrong with the file says what it should be.
auto read_with_hint(const char* hint, const auto& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.hint().empty() ? hint : error.hint());
  }
}

std::optional<LoadedChatTemplate> own_template(const ServeFlags& flags, const Session& session) {
  if (flags.chat_template.empty()) return std::nullopt;
  LoadedChatTemplate loaded = read_with_hint(
      "--chat-template is a file with a Jinja template, as in tokenizer_config.json",
      [&]() -> LoadedChatTemplate {
        const std::string source = read_file(flags.chat_template, jinja::kMaxTemplateBytes);
        return {ChatTemplate::parse(source, flags.chat_template), std::nullopt};
      });
  if (session.chat_template() != nullptr) {
    loaded.special_tokens = session.chat_template()->special_tokens;
  }
  return loaded;
}

int serve_model(ServeFlags& flags) {
  serve::AppOptions app;
  if (!flags.api_key_file.empty()) {
    app.keys = read_with_hint("--api-key-file has a key a line; lines with # are comments",
                              [&] { return serve::ApiKeys::from_file(flags.api_key_file); });
  }
  const bool open_to_all = app.keys.empty() && !is_loopback(flags.http.host);
  app.allowed_origins = flags.allowed_origins;
  app.request_timeout = to_ms(flags.request_timeout_s);
  app.log_prompts = flags.log_prompts;
  app.version = version_number();
  app.commit = version_commit();
  app.build = version_build();
  flags.http.header_timeout = to_ms(flags.header_timeout_s);
  flags.http.body_timeout = to_ms(flags.body_timeout_s);
  flags.http.idle_timeout = to_ms(flags.idle_timeout_s);
  flags.http.write_timeout = to_ms(flags.write_timeout_s);
  flags.http.max_body_bytes = flags.max_body_mb << 20;
  serve::AccessLog log(flags.log_file, flags.log_format == "json" ? serve::LogFormat::kJson
                                                                  : serve::LogFormat::kText);
  SignalThread signals([&log] { log.reopen(); });  // before the threads of the session

  serve::App* loading = nullptr;
  SessionOptions options;
  options.model = flags.model;
  options.backend = flags.backend;
  options.settings = flags.settings.load();
  options.record_routes = flags.routing.wanted();
  options.on_progress = [&loading](const std::string& what, double fraction) {
    if (loading != nullptr) loading->set_progress(what, fraction);
  };
  Session session(std::move(options));
  if (flags.dry_run) {
    write_output(
        flags.json ? plan_json(session.plan(), session.spec(), session.folder().name).dump(2) + "\n"
                   : plan_text(session.plan(), session.spec(), session.folder().name));
    return 0;
  }
  session.require_tokenizer();
  const std::optional<LoadedChatTemplate> own = own_template(flags, session);

  std::unique_ptr<RoutingLog> routing;  // ends after the server and before the session
  std::optional<serve::Server> server;
  server.emplace(flags.http, std::move(app), &log);
  loading = &server->app();
  server->start();
  if (open_to_all) {
    log::warning("{} can be reached from other machines and asks for no key (--api-key-file)",
                 flags.http.host);
  }
  if (flags.log_prompts) log::warning("prompts are written to the log (--log-prompts)");
  session.start();
  routing = flags.routing.start(session);
  const auto model = served_model(flags, session, own ? &*own : session.chat_template());
  if (routing) {
    model->routing_log = [&recorder = routing->recorder()] { return recorder.state(); };
  }
  server->app().set_model(model);
  signals.set_graceful();
  fmt::print(stderr, "{} serving {} on {}\n", styled(stderr, Style::kGood, "ready:"),
             flags.served_names.empty() ? session.folder().name : flags.served_names.front(),
             url_of(flags, server->port()));
  signals.wait_for_end();
  fmt::print(stderr, "ending: running requests have {:g} s (again to end at once)\n",
             flags.drain_timeout_s);
  const bool in_time = server->shut_down(to_ms(flags.drain_timeout_s));
  if (!in_time) fmt::print(stderr, "requests that were still running were ended\n");
  server.reset();
  if (routing) routing->finish_aloud();
  return 0;
}

}  // namespace

void add_serve(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* verb = program.add_subcommand("serve", "Serve a model over the OpenAI API");
  verb->add_option("model", flags->model, "Folder or name")->required()->envname("MOEOPT_MODEL");
  const auto add = [verb](const char* flag, auto& value, const char* type, const char* help) {
    std::string name = "MOEOPT_" + std::string(flag + 2);
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    return verb->add_option(flag, value, help)->type_name(type)->envname(name)->group("Server");
  };
  add("--host", flags->http.host, "ADDRESS", "Where to listen")->capture_default_str();
  add("--port", flags->http.port, "N", "0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  add("--api-key-file", flags->api_key_file, "FILE", "Ask for one of these keys, one a line");
  add("--allow-origin", flags->allowed_origins, "ORIGIN",
      "Let pages of this origin use the API (*: all); may be repeated");
  add("--served-model-name", flags->served_names, "NAME",
      "The model's name in the API; may be repeated");
  add("--chat-template", flags->chat_template, "FILE", "A template instead of the model's own");
  add("--max-waiting", flags->max_waiting, "N", "Choices that may wait; more get 429")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  const CLI::Range seconds(0.0, 1e6);
  add("--request-timeout", flags->request_timeout_s, "SECONDS", "Of a generation; 0: none")
      ->check(seconds)
      ->capture_default_str();
  add("--queue-timeout", flags->queue_timeout_s, "SECONDS", "Of waiting for a slot; 0: none")
      ->check(seconds)
      ->capture_default_str();
  add("--drain-timeout", flags->drain_timeout_s, "SECONDS",
      "What running requests have after SIGTERM")
      ->check(seconds)
      ->capture_default_str();
  const CLI::Range some_seconds(0.1, 1e6);
  add("--stuck-after", flags->stuck_after_s, "SECONDS", "A step this long makes /health unhealthy")
      ->check(some_seconds)
      ->capture_default_str();
  add("--header-timeout", flags->header_timeout_s, "SECONDS", "For a request's header to come")
      ->check(some_seconds)
      ->capture_default_str();
  add("--body-timeout", flags->body_timeout_s, "SECONDS", "For its body to come")
      ->check(some_seconds)
      ->capture_default_str();
  add("--idle-timeout", flags->idle_timeout_s, "SECONDS", "Between requests of a connection")
      ->check(some_seconds)
      ->capture_default_str();
  add("--write-timeout", flags->write_timeout_s, "SECONDS", "For a client to take a byte")
      ->check(some_seconds)
      ->capture_default_str();
  add("--max-connections", flags->http.max_connections, "N", "More get 503")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  add("--max-body-mb", flags->max_body_mb, "MB", "A larger body gets 413")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add("--log-file", flags->log_file, "FILE",
      "One line a request goes here; SIGHUP opens it again [standard error]");
  add("--log-format", flags->log_format, "FORMAT", "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  verb->add_flag("--log-prompts", flags->log_prompts,
                 "Write prompts into the line of their request, the first 4 KiB")
      ->envname("MOEOPT_LOG_PROMPTS")
      ->group("Server");
  verb->add_option("--backend", flags->backend, "cpu, or reference (slow, the specification)")
      ->check(CLI::IsMember({"cpu", "reference", "cuda"}))
      ->envname("MOEOPT_BACKEND");
  verb->add_flag("--dry-run", flags->dry_run, "Plan only: read no weights")
      ->envname("MOEOPT_DRY_RUN");
  verb->add_flag("--json", flags->json, "With --dry-run: the plan as JSON")->envname("MOEOPT_JSON");
  flags->settings.add_to(*verb);
  flags->routing.add_to(*verb);
  verb->footer(
      "SIGTERM and Ctrl-C let running requests finish; the second one ends at once. Prompts are\n"
      "logged with --log-prompts alone, answers never.");
  verb->callback([flags, &exit_code] { exit_code = serve_model(*flags); });
}

}  // namespace moeopt::cli
