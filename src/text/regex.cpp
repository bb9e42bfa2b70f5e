#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/regex_syntax.h"

namespace moeopt {
namespace {

constexpr std::size_t kMostPatternBytes = 32768;  // as PCRE2's, with classes written out

// A search looks at a window of this many bytes first. A match that touches its end is searched
// again in a window twice as large, so that a hostile expression has little text to backtrack over
// before the clock is looked at.
constexpr std::size_t kFirstWindowBytes = 1024;
// Positions where one search may begin to match, times bytes of its window.
constexpr std::size_t kStartsTimesWindow = 256 * kFirstWindowBytes;

constexpr std::int64_t kBudgetBaseNs = 1'000'000'000;
constexpr std::int64_t kBudgetPerByteNs = 2'000;

std::int64_t thread_time_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

// What a match writes to; of no interest after the match was copied out.
struct Workspace {
  std::unique_ptr<pcre2_match_data, Free> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free> context{pcre2_match_context_create(nullptr)};
};

Workspace& workspace() {
  thread_local Workspace instance;
  return instance;
}

std::string error_text(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Free> code;
  bool jit = false;
  std::string where;
};

void RegexBudget::check_clock() {
  const std::int64_t now_ns = thread_time_ns();
  if (start_ns_ < 0) start_ns_ = now_ns;
  const std::int64_t limit_ns =
      kBudgetBaseNs + kBudgetPerByteNs * static_cast<std::int64_t>(text_bytes_);
  if (now_ns - start_ns_ > limit_ns) {
    throw_error(ErrorCode::kInvalidData,
                "the tokenizer's regular expressions take too long on a text of {} bytes",
                text_bytes_);
  }
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Regex::Regex(std::string_view pattern, std::string_view where) {
  const std::string pcre_pattern = translate_oniguruma(pattern, where);
  if (pcre_pattern.size() > kMostPatternBytes) {
    throw_error(ErrorCode::kInvalidData, "{}: a regular expression of {} bytes, the limit is {}",
                where, pcre_pattern.size(), kMostPatternBytes);
  }
  const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 50);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->where = where;
  code->code.reset(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pcre_pattern.data()), pcre_pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
      &error, &offset, context.get()));
  if (code->code == nullptr) {
    throw_error(ErrorCode::kInvalidData, "{}: regular expression: {}", where, error_text(error));
  }
  code->jit = pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  code_ = std::move(code);
}

bool Regex::Search::next(RegexMatch& match) {
  while (at_ <= text_.size() && next_candidate(match)) {
    if (match.begin == match.end && match.end == last_match_end_) {
      at_ = boundary_at_or_after(match.end + 1);
      continue;
    }
    at_ = last_match_end_ = match.end;
    return true;
  }
  return false;
}

bool Regex::Search::next_candidate(RegexMatch& match) {
  const auto& [code, jit, where] = *regex_.code_;
  Workspace& use = workspace();
  std::size_t window_bytes = kFirstWindowBytes;
  while (true) {
    const std::size_t window_end = boundary_at_or_after(std::min(at_ + window_bytes, text_.size()));
    const std::size_t starts = std::max<std::size_t>(1, kStartsTimesWindow / window_bytes);
    const std::size_t last_start = boundary_at_or_after(std::min(at_ + starts, text_.size()));
    const auto match_limit =
        static_cast<std::uint32_t>(std::min<std::size_t>(4096 + 4 * window_bytes, UINT32_MAX));
    pcre2_set_offset_limit(use.context.get(), last_start);
    pcre2_set_match_limit(use.context.get(), match_limit);
    pcre2_set_depth_limit(use.context.get(), match_limit);
    budget_.spend(window_bytes != kFirstWindowBytes);
    const std::uint32_t partial = window_end < text_.size() ? PCRE2_PARTIAL_HARD : 0;
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
    const int result =
        jit ? pcre2_jit_match(code.get(), subject, window_end, at_, partial, use.data.get(),
                              use.context.get())
            : pcre2_match(code.get(), subject, window_end, at_, partial | PCRE2_NO_UTF_CHECK,
                          use.data.get(), use.context.get());
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(use.data.get());
    if (result >= 0) {
      match = {found[0], found[1]};
      return true;
    }
    if (result == PCRE2_ERROR_PARTIAL) {
      at_ = found[0];
      window_bytes *= 2;
    } else if (result == PCRE2_ERROR_NOMATCH) {
      if (std::min(last_start, window_end) >= text_.size()) return false;
      at_ = last_start < window_end ? boundary_at_or_after(last_start + 1) : window_end;
      window_bytes = kFirstWindowBytes;
    } else {
      throw_error(ErrorCode::kInvalidData, "{}: regular expression: {}", where, error_text(result));
    }
  }
}

std::size_t Regex::Search::boundary_at_or_after(std::size_t at) const {
  while (at < text_.size() && (static_cast<unsigned char>(text_[at]) & 0xC0U) == 0x80U) ++at;
  return at;
}

}  // namespace moeopt
