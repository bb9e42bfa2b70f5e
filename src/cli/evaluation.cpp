#include "cli/evaluation.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/strings.h"
#include "engine/scoring.h"

namespace moeopt::cli {

Perplexity perplexity(Session& session, std::span<const std::int32_t> ids,
                      const std::function<void(double)>& on_progress) {
  Perplexity result;
  double sum = 0;
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += kPerplexityWindow) {
    const auto window =
        ids.subspan(begin, std::min<std::size_t>(kPerplexityWindow, ids.size() - begin));
    if (window.size() < 2) break;
    session.score(window, [&](int position, std::span<const float> logits) {
      const auto next = static_cast<std::size_t>(position) + 1;
      if (next == window.size()) return;
      sum += negative_log_likelihood(logits, window[next]);
      result.scored += 1;
    });
    on_progress(static_cast<double>(begin + window.size()) / static_cast<double>(ids.size()));
  }
  if (result.scored == 0) throw_error(ErrorCode::kUsage, "the text has fewer than two tokens");
  result.value = std::exp(sum / static_cast<double>(result.scored));
  return result;
}

std::vector<Question> read_questions(const std::filesystem::path& file) {
  constexpr std::size_t kLimitBytes = std::size_t{256} << 20;
  std::vector<Question> questions;
  std::size_t number = 0;
  for (const std::string& line : split(read_file(file, kLimitBytes), '\n')) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = fmt::format("{}:{}", file.string(), number);
    const Json row = parse_json(line, where);
    const auto text = [&](const char* field) {
      if (!row.is_object() || !row.contains(field) || !row[field].is_string()) {
        throw_error(ErrorCode::kInvalidData, "{}: needs the string \"{}\"", where, field);
      }
      return row[field].get<std::string>();
    };
    questions.push_back({text("question"), text("answer")});
  }
  if (questions.empty()) throw_error(ErrorCode::kInvalidData, "{}: no questions", file.string());
  return questions;
}

std::string_view final_answer(std::string_view text) {
  const auto mark = text.rfind("####");
  if (mark == std::string_view::npos) return {};
  text.remove_prefix(mark + 4);
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

Accuracy ask(Session& session, std::span<const Question> questions, int max_tokens,
             const std::function<void(double)>& on_progress) {
  Accuracy result;
  result.asked = questions.size();
  result.texts.resize(questions.size());
  std::size_t done = 0;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    Request request;
    auto messages = nlohmann::ordered_json::array();
    messages.push_back({{"role", "user"}, {"content", questions[i].question}});
    request.prompt = session.encode_chat(messages);
    request.sampling.temperature = 0;
    request.max_tokens = max_tokens;
    request.stop_ids = session.defaults().stop_ids;
    session.engine().submit(std::move(request), [&, i](const Event& event) {
      result.texts[i] += event.text;
      if (event.finish == FinishReason::kNone) return;
      if (final_answer(result.texts[i]) == questions[i].answer) result.right += 1;
      on_progress(static_cast<double>(++done) / static_cast<double>(questions.size()));
    });
  }
  while (session.engine().step()) {
  }
  return result;
}

}  // namespace moeopt::cli
