# moeopt_library(NAME DEPS a b LIBS x y): the folder src/NAME as static library moeopt_NAME.
# DEPS are folders below it (tools/check_includes.py holds the same arrows), LIBS outside ones.
# A file foo_avx2.cpp, foo_avx512.cpp, foo_avx512bf16.cpp or foo_amx.cpp holds code for that
# instruction set alone: it gets the flags here, and may be entered only after base/cpu_features said
# yes.
# MOEOPT_UNITY compiles ten sources at a time: most of a file's time is its headers'. Names in unnamed
# namespaces are therefore unique within a folder, or the source is left out of the batches.
function(moeopt_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$")
  add_library(moeopt_${name} STATIC ${sources})
  target_include_directories(moeopt_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM ARG_DEPS PREPEND moeopt_)
  target_link_libraries(moeopt_${name} PUBLIC ${ARG_DEPS} PRIVATE moeopt_flags ${ARG_LIBS})
  set_target_properties(moeopt_${name} PROPERTIES UNITY_BUILD ${MOEOPT_UNITY} UNITY_BUILD_BATCH_SIZE 10)
  if(MOEOPT_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # In a batch a source looks like a header, and GCC 12 inlines further and doubts what is a variant's.
    target_compile_options(moeopt_${name} PRIVATE -Wno-subobject-linkage -Wno-maybe-uninitialized)
  endif()
  foreach(source ${sources})
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq")
    elseif(source MATCHES "_avx512bf16\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16")
    elseif(source MATCHES "_amx\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mamx-tile;-mamx-bf16")
    endif()
  endforeach()
endfunction()

# moeopt_test(NAME DEPS a b): the folder tests/NAME as one GoogleTest binary test_NAME.
function(moeopt_test name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*_test.cpp
       ${PROJECT_SOURCE_DIR}/tests/${name}/*_util.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  list(TRANSFORM ARG_DEPS PREPEND moeopt_)
  target_link_libraries(test_${name}
    PRIVATE moeopt_${name} ${ARG_DEPS} moeopt_flags ${ARG_LIBS} GTest::gtest_main GTest::gmock)
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name} PRIVATE MOEOPT_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND test_${name})
endfunction()
