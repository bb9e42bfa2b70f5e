#include "cli/chat_loop.h"

#include <histedit.h>

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/strings.h"
#include "cli/generate.h"
#include "cli/terminal.h"

namespace moeopt::cli {
namespace {

constexpr const char* kHelp =
    "/reset   forget the conversation\n"
    "/help    this text\n"
    "/quit    end (or Ctrl-D)\n";

char* prompt_text(EditLine*) {
  static char text[] = "> ";
  return text;
}

// libedit's editor and history, closed together.
class LineEditor {
 public:
  LineEditor()
      : history_(::history_init(), ::history_end),
        editor_(::el_init("moeopt", stdin, stdout, stderr), ::el_end) {
    HistEvent event;
    ::history(history_.get(), &event, H_SETSIZE, 1000);
    ::el_set(editor_.get(), EL_PROMPT, prompt_text);
    ::el_set(editor_.get(), EL_EDITOR, "emacs");
    ::el_set(editor_.get(), EL_HIST, ::history, history_.get());
    ::el_set(editor_.get(), EL_SIGNAL, 1);
    ::el_source(editor_.get(), nullptr);
  }

  // False at the end of the input.
  bool read(std::string& line) {
    int length = 0;
    const char* text = ::el_gets(editor_.get(), &length);
    if (text == nullptr || length <= 0) return false;
    line.assign(text, static_cast<std::size_t>(length));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    HistEvent event;
    if (!line.empty()) ::history(history_.get(), &event, H_ENTER, line.c_str());
    return true;
  }

 private:
  std::unique_ptr<History, decltype(&::history_end)> history_;
  std::unique_ptr<EditLine, decltype(&::el_end)> editor_;
};

nlohmann::ordered_json opening(const std::string& system) {
  auto messages = nlohmann::ordered_json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  return messages;
}

// One turn. The conversation keeps what was said even when it was cut short.
void answer(Session& session, const std::function<Request()>& make_request,
            nlohmann::ordered_json& messages) {
  Request request = make_request();
  request.prompt = session.encode_chat(messages);
  const InterruptGuard interrupt;
  const Generated generated =
      generate(session, std::move(request), [](std::string_view text) { write_output(text); });
  write_output("\n");
  fmt::print(stderr, "{}\n", styled(stderr, Style::kDim, summary_line(generated)));
  messages.push_back({{"role", "assistant"}, {"content", generated.text}});
}

}  // namespace

int chat_loop(Session& session, const std::function<Request()>& make_request,
              const std::string& system) {
  fmt::print(stderr, "{}\n",
             styled(stderr, Style::kDim,
                    fmt::format("{} on {}. /help for help, Ctrl-D to end.", session.folder().name,
                                session.backend().name())));
  LineEditor editor;
  auto messages = opening(system);
  std::string line;
  while (editor.read(line)) {
    if (line.empty()) continue;
    if (line == "/quit" || line == "/exit") break;
    if (line == "/help") {
      write_output(kHelp);
      continue;
    }
    if (line == "/reset") {
      messages = opening(system);
      continue;
    }
    messages.push_back({{"role", "user"}, {"content", line}});
    try {
      answer(session, make_request, messages);
    } catch (const Error& error) {
      fmt::print(stderr, "{} {}\n", styled(stderr, Style::kError, "error:"), error.what());
      if (!error.hint().empty()) fmt::print(stderr, "hint:  {} or /reset\n", error.hint());
      messages.erase(messages.size() - 1);
    }
  }
  write_output("\n");
  return 0;
}

}  // namespace moeopt::cli
