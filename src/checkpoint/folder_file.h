// Files of a model folder, found without being led out of it.
// Invariant: a path returned here has no symlinks left in it and lies inside the folder, or, for a
// snapshot of the Hugging Face cache, inside the blobs of the same repository.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace moeopt {

// True for one path component: not empty, no '/' or '\', not "." or "..", no control character, at
// most 255 bytes.
bool is_plain_file_name(std::string_view name);

// The real path of `name` in `folder`; nullopt when there is no such entry. Error(kInvalidData)
// when `name` is not plain or is a symlink that leaves the folder or leads nowhere, Error(kIo).
std::optional<std::filesystem::path> find_in_folder(const std::filesystem::path& folder,
                                                    std::string_view name);

}  // namespace moeopt
