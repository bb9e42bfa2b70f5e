#include "cuda/moe/last_error.h"

#include <algorithm>
#include <array>

namespace moeopt::cuda::moe {
namespace {

thread_local std::array<char, 512> text_of_thread{};

}  // namespace

void set_last_error(std::string_view text) noexcept {
  const std::size_t length = std::min(text.size(), text_of_thread.size() - 1);
  std::copy_n(text.data(), length, text_of_thread.data());
  text_of_thread[length] = '\0';
}

const char* last_error() noexcept {
  return text_of_thread.data();
}

}  // namespace moeopt::cuda::moe
