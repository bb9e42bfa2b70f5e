#include "checkpoint/weights_search.h"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

struct UnreadFormat {
  std::string_view suffix;
  std::string_view format;
  std::string_view hint;
};

constexpr std::string_view kPickle = "a pickle, which can run code when loaded,";
constexpr std::string_view kPickleHint =
    "use the model's safetensors files, or convert them where you trust the source: "
    "model.save_pretrained(folder, safe_serialization=True)";
constexpr std::array<UnreadFormat, 9> kUnreadFormats = {{
    {".gguf", "GGUF", "use the Hugging Face checkpoint (safetensors) that it was made from"},
    {".ggml", "GGML", "use the Hugging Face checkpoint (safetensors) that it was made from"},
    {".bin", kPickle, kPickleHint},
    {".pt", kPickle, kPickleHint},
    {".pth", kPickle, kPickleHint},
    {".ckpt", kPickle, kPickleHint},
    {".h5", "a TensorFlow file", "use the model's safetensors files"},
    {".msgpack", "a Flax file", "use the model's safetensors files"},
    {".onnx", "ONNX", "use the model's safetensors files"},
}};

// In order, and not without end: a message needs no more.
std::vector<std::string> names_in(const fs::path& folder) {
  constexpr std::size_t kMaxNames = 10'000;
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  if (error) throw_error(ErrorCode::kIo, "{}: {}", folder.string(), error.message());
  for (; entry != fs::directory_iterator() && names.size() < kMaxNames; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) throw_error(ErrorCode::kIo, "{}: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

const UnreadFormat* unread_format(std::string_view file_name) {
  for (const UnreadFormat& unread : kUnreadFormats) {
    if (file_name.ends_with(unread.suffix)) return &unread;
  }
  return nullptr;
}

[[noreturn]] void refuse_format(const fs::path& file, const UnreadFormat& unread) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: {} is not read", printable(file.string(), 4096), unread.format),
              std::string(unread.hint));
}

void refuse_unread_formats(const fs::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (const UnreadFormat* unread = unread_format(name)) refuse_format(folder / name, *unread);
  }
}

}  // namespace

void refuse_without_weights(const fs::path& folder) {
  const std::vector<std::string> names = names_in(folder);
  const std::string what =
      fmt::format("{}: no weights: looked for {} and {}", folder.string(), kSingleFile, kIndexFile);
  for (const std::string& name : names) {
    if (!name.ends_with(".safetensors")) continue;
    throw Error(ErrorCode::kNotFound, what,
                fmt::format("there is {}, but a single file must be called {}, and shards need "
                            "their index",
                            printable(name), kSingleFile));
  }
  refuse_unread_formats(folder, names);
  throw Error(ErrorCode::kNotFound, what, "a model's folder has them beside config.json");
}

void refuse_without_config(const fs::path& folder) {
  const std::vector<std::string> names = names_in(folder);
  if (std::none_of(names.begin(), names.end(),
                   [](const std::string& name) { return name.ends_with(".safetensors"); })) {
    refuse_unread_formats(folder, names);
  }
  throw Error(ErrorCode::kNotFound, fmt::format("{}: there is no config.json", folder.string()),
              "a model is a folder as Transformers saves it: config.json, *.safetensors, "
              "tokenizer.json");
}

void refuse_file_as_model(const fs::path& file) {
  if (const UnreadFormat* unread = unread_format(file.filename().string())) {
    refuse_format(file, *unread);
  }
  throw Error(ErrorCode::kUsage, fmt::format("{}: is not a folder", file.string()),
              fmt::format("name the folder that the model lies in: {}",
                          file.has_parent_path() ? file.parent_path().string() : "."));
}

}  // namespace moeopt
