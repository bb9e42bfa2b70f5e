// The files of src/serve/page, embedded in the program by cmake/EmbedFiles.cmake.
#pragma once

#include <span>
#include <string_view>

namespace moeopt::serve {

struct PageFile {
  std::string_view name;  // "index.html"
  std::string_view content_type;
  std::string_view bytes;
};

std::span<const PageFile> page_files();  // generated
// nullptr when there is none of that name.
const PageFile* find_page_file(std::string_view name);

}  // namespace moeopt::serve
