find_package(Git QUIET)
set(COMMIT "unknown")
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE_DIR} describe --always --dirty --abbrev=12
                  OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                  RESULT_VARIABLE failed)
  if(NOT failed)
    set(COMMIT "${described}")
  endif()
endif()
set(FLAVOUR "${BUILD_TYPE}")
if(SANITIZE)
  string(APPEND FLAVOUR " (${SANITIZE})")
endif()
file(CONFIGURE OUTPUT ${OUT}.new CONTENT [=[
#pragma once
#define MOEOPT_VERSION "@VERSION@"
#define MOEOPT_COMMIT "@COMMIT@"
#define MOEOPT_BUILD "@FLAVOUR@"
#define MOEOPT_WITH_CUDA "@CUDA@"
]=] @ONLY)
file(COPY_FILE ${OUT}.new ${OUT} ONLY_IF_DIFFERENT)
