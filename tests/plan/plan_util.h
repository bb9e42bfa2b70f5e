// What the tests of plan/ share: specs of known models, settings from flags, a machine to plan for.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "model/model_spec.h"
#include "plan/memory_plan.h"
#include "plan/settings.h"

namespace moeopt::test {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// From models/ in the source tree.
ModelSpec known_spec(std::string_view name);

// A two-layer Qwen3-MoE whose every size is told by `changes` (config.json fields as JSON text).
ModelSpec tiny_spec(const std::map<std::string, std::string>& changes = {});

using Flags = std::map<std::string, std::string>;

// Without profile, file and environment but for what `flags` say.
Settings settings_of(const Flags& flags = {});

Hardware cpu_with(std::uint64_t memory_bytes);
Hardware gpus(std::string_view name);

MemoryPlan plan_of(const ModelSpec& spec, const Hardware& hardware, const Flags& flags = {});

// What `call` throws: "code: what | hint"; "nothing" when it does not throw an Error.
struct Thrown {
  ErrorCode code = ErrorCode::kInternal;
  std::string what = "nothing was thrown";
  std::string hint;
};
template <typename Call>
Thrown thrown_by(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what(), error.hint()};
  }
  return {};
}

// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder();

  const std::filesystem::path& path() const { return path_; }
  // Makes parent folders; returns the file's path.
  std::filesystem::path write(const std::string& name, std::string_view text) const;

 private:
  std::filesystem::path path_;
};

}  // namespace moeopt::test
