// Counts the calls of operator new in this test program, of all threads, while asked to.
#pragma once

#include <cstddef>

namespace moeopt {

bool counts_allocations();  // false under a sanitizer, which has an operator new of its own
void start_counting_allocations();
std::size_t stop_counting_allocations();

}  // namespace moeopt
