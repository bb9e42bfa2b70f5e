// What a folder's weights are called, and what to say about a folder that has none we read.
#pragma once

#include <filesystem>
#include <string_view>

namespace moeopt {

inline constexpr std::string_view kSingleFile = "model.safetensors";
inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";

// Throws Error(kUnsupported) when the folder holds weights in a format that this program does not
// read (it names the file, the format and what to do), else Error(kNotFound).
[[noreturn]] void refuse_without_weights(const std::filesystem::path& folder);

// The same for a folder without config.json.
[[noreturn]] void refuse_without_config(const std::filesystem::path& folder);

// The user named a file where a folder is meant: Error(kUnsupported) for a format that is not read,
// else Error(kUsage).
[[noreturn]] void refuse_file_as_model(const std::filesystem::path& file);

}  // namespace moeopt
