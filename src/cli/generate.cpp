#include "cli/generate.h"

#include <chrono>

#include "cli/terminal.h"

namespace moeopt::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double Generated::decode_tokens_per_second() const {
  const double decode_s = total_s - first_token_s;
  if (tokens.size() < 2 || decode_s <= 0) return 0;
  return static_cast<double>(tokens.size() - 1) / decode_s;
}

Generated generate(Session& session, Request request,
                   const std::function<void(std::string_view)>& on_text) {
  Generated result;
  result.n_prompt = static_cast<int>(request.prompt.size());
  const auto start = Clock::now();
  const auto on_event = [&](const Event& event) {
    if (event.token != nullptr) {
      if (result.tokens.empty()) result.first_token_s = seconds_since(start);
      const SampledToken& token = *event.token;
      result.tokens.push_back({token.id, token.logprob, {token.top.begin(), token.top.end()}});
    }
    if (!event.text.empty()) {
      result.text += event.text;
      if (on_text) on_text(event.text);
    }
    result.finish = event.finish;
  };
  const RequestId id = session.engine().submit(std::move(request), on_event);
  while (session.engine().step()) {
    if (InterruptGuard::interrupted()) session.engine().cancel(id);
  }
  result.total_s = seconds_since(start);
  return result;
}

std::string summary_line(const Generated& generated) {
  std::string line = fmt::format("{} prompt tokens, {} generated ({})", generated.n_prompt,
                                 generated.tokens.size(), finish_reason_name(generated.finish));
  if (generated.tokens.empty()) return line;
  const double first_ms = generated.first_token_s * 1e3;
  line += fmt::format(" · first after {:.{}f} ms", first_ms, first_ms < 10 ? 1 : 0);
  if (const double rate = generated.decode_tokens_per_second(); rate > 0) {
    line += fmt::format(" · {:.1f} tokens/s", rate);
  }
  return line;
}

}  // namespace moeopt::cli
