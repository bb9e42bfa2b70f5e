# Script: the files of FOLDER as C++ arrays in OUT, for src/serve/page_files.h.
# cmake -DFOLDER=... -DOUT=... -P EmbedFiles.cmake
file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*)
list(SORT files)
set(arrays "")
set(rows "")
set(index 0)
foreach(name ${files})
  get_filename_component(ending ${name} LAST_EXT)
  if(ending STREQUAL ".html")
    set(type "text/html; charset=utf-8")
  elseif(ending STREQUAL ".css")
    set(type "text/css; charset=utf-8")
  elseif(ending STREQUAL ".js")
    set(type "text/javascript; charset=utf-8")
  elseif(ending STREQUAL ".svg")
    set(type "image/svg+xml")
  else()
    continue()
  endif()
  file(READ ${FOLDER}/${name} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  # Lines of 16 bytes, then each byte as \xNN.
  string(REGEX REPLACE "(................................)" "\\1\n" lines "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" lines "${lines}")
  string(REGEX REPLACE "([^\n]+)" "    \"\\1\"" lines "${lines}")
  string(APPEND arrays "constexpr char kFile${index}[] =\n${lines};\n")
  string(APPEND rows "    {\"${name}\", \"${type}\", {kFile${index}, ${size}}},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(WRITE ${OUT}.new "// Made by cmake/EmbedFiles.cmake.
#include \"serve/page_files.h\"

namespace moeopt::serve {
namespace {

${arrays}
constexpr PageFile kFiles[] = {
${rows}    {{}, {}, {}},  // never seen: an array cannot be empty
};

}  // namespace

std::span<const PageFile> page_files() { return {kFiles, ${index}}; }

}  // namespace moeopt::serve
")
file(COPY_FILE ${OUT}.new ${OUT} ONLY_IF_DIFFERENT)
