// The text behind moeopt_last_error(), one per thread.
// Invariant: setting it neither allocates nor throws, so that it works after std::bad_alloc.
#pragma once

#include <string_view>

namespace moeopt::cuda::moe {

void set_last_error(std::string_view text) noexcept;  // longer texts are cut
const char* last_error() noexcept;

}  // namespace moeopt::cuda::moe
