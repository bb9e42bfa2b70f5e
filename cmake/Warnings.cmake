# Flags shared by every target of ours. Warnings are errors.
add_library(moeopt_flags INTERFACE)
target_compile_options(moeopt_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor
  -Woverloaded-virtual -Wundef -Wimplicit-fallthrough -fno-math-errno -ffp-contract=off>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # restrict: GCC 12 sees overlaps in "literal" + std::string that are not there (GCC bug 105651).
  target_compile_options(moeopt_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-psabi -Wno-restrict>)
endif()
if(MOEOPT_SANITIZE)
  target_compile_options(moeopt_flags INTERFACE
    -fsanitize=${MOEOPT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1)
  target_link_options(moeopt_flags INTERFACE -fsanitize=${MOEOPT_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND MOEOPT_SANITIZE STREQUAL "thread")
    # GCC's ThreadSanitizer does not see Asio's fences; its mutexes order the same.
    target_compile_options(moeopt_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")  # clang 14 cannot assemble a coroutine with it
    target_compile_options(moeopt_flags INTERFACE -fno-sanitize=function)
  endif()
endif()
if(MOEOPT_FUZZ)
  # Coverage for every library; the fuzz binaries alone link libFuzzer's main.
  target_compile_options(moeopt_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(moeopt_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
