#include "checkpoint/folder_file.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/strings.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;

// <cache>/models--org--name/snapshots/<commit>: its files are symlinks into ../../blobs.
std::optional<fs::path> blobs_of_snapshot(const fs::path& real_folder) {
  const fs::path snapshots = real_folder.parent_path();
  const fs::path repository = snapshots.parent_path();
  if (snapshots.filename() != "snapshots") return std::nullopt;
  if (!repository.filename().string().starts_with("models--")) return std::nullopt;
  return repository / "blobs";
}

bool is_inside(const fs::path& real_file, const fs::path& real_folder) {
  return std::mismatch(real_folder.begin(), real_folder.end(), real_file.begin(), real_file.end())
             .first == real_folder.end();
}

[[noreturn]] void refuse(const fs::path& file, const std::error_code& error) {
  throw_error(ErrorCode::kIo, "{}: {}", file.string(), error.message());
}

}  // namespace

bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

std::optional<fs::path> find_in_folder(const fs::path& folder, std::string_view name) {
  if (!is_plain_file_name(name)) {
    throw_error(ErrorCode::kInvalidData, "{}: \"{}\" is not the name of a file in it",
                folder.string(), printable(name));
  }
  const fs::path file = folder / name;
  std::error_code error;
  const fs::file_status status = fs::symlink_status(file, error);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  if (error) refuse(file, error);

  const fs::path real_folder = fs::canonical(folder, error);
  if (error) refuse(folder, error);
  if (status.type() != fs::file_type::symlink) return real_folder / name;

  const fs::path target = fs::canonical(file, error);
  if (error == std::errc::no_such_file_or_directory ||
      error == std::errc::too_many_symbolic_link_levels) {
    throw Error(ErrorCode::kInvalidData,
                fmt::format("{}: a symlink that leads nowhere", file.string()),
                "in a Hugging Face cache this is an incomplete download: fetch it again");
  }
  if (error) refuse(file, error);
  if (is_inside(target, real_folder)) return target;
  const auto blobs = blobs_of_snapshot(real_folder);
  if (blobs && target.parent_path() == *blobs) return target;
  throw Error(
      ErrorCode::kInvalidData,
      fmt::format("{}: a symlink out of the model's folder, to {}", file.string(), target.string()),
      "copy or hard-link the file, or name the folder that it lies in");
}

}  // namespace moeopt
