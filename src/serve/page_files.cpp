#include "serve/page_files.h"

#include <algorithm>

namespace moeopt::serve {

const PageFile* find_page_file(std::string_view name) {
  const auto files = page_files();
  const auto found = std::ranges::find(files, name, &PageFile::name);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace moeopt::serve
