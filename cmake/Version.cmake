# Writes version.h with the commit at every build, so that --version never lies after a commit.
# The file is rewritten only when its text changes: no needless recompilation.
add_custom_target(moeopt_version_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DOUT=${PROJECT_BINARY_DIR}/generated/moeopt_version.h
          -DVERSION=${PROJECT_VERSION} -DBUILD_TYPE=${CMAKE_BUILD_TYPE} -DSANITIZE=${MOEOPT_SANITIZE}
          -DCUDA=${MOEOPT_CUDA} -P ${PROJECT_SOURCE_DIR}/cmake/WriteVersion.cmake
  BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/moeopt_version.h
  COMMENT "")
