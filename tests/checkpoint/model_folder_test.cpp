#include "checkpoint/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_util.h"

namespace moeopt {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

// As huggingface_hub lays it out: refs, blobs, and a snapshot of symlinks into the blobs.
fs::path write_hub_model(const TempFolder& folder, const fs::path& cache) {
  const fs::path repository = cache / "models--Org--Moe-1.5B";
  folder.write(repository / "refs/main", kCommit);
  folder.write(repository / "blobs/1111", R"({"model_type":"qwen3_moe"})");
  folder.write(repository / "blobs/2222", safetensors_file({{"w", "F32", {1}, f32_bytes({9})}}));
  const fs::path snapshot = folder.path() / repository / "snapshots" / kCommit;
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/1111", snapshot / "config.json");
  fs::create_symlink("../../blobs/2222", snapshot / "model.safetensors");
  return snapshot;
}

EnvironmentLookup with_cache(const fs::path& cache) {
  return environment_of({{"HF_HUB_CACHE", cache.string()}});
}

struct Refusal {
  ErrorCode code = ErrorCode::kInternal;
  std::string what = "accepted";
  std::string hint;
};

Refusal refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what(), error.hint()};
  }
  return {};
}

TEST(ResolveModel, TakesAFolder) {
  const TempFolder folder;
  folder.write("tiny-moe/config.json", "{}");
  for (const char* spelling : {"tiny-moe", "tiny-moe/", "tiny-moe/.", "./tiny-moe"}) {
    const ModelFolder model =
        resolve_model((folder.path() / spelling).string(), environment_of({}));
    EXPECT_TRUE(fs::equivalent(model.folder, folder.path() / "tiny-moe"));
    EXPECT_EQ(model.name, "tiny-moe");
    EXPECT_FALSE(model.from_hub_cache);
  }
  const auto home = environment_of({{"HOME", folder.path().string()}});
  EXPECT_EQ(resolve_model("~/tiny-moe", home).name, "tiny-moe");
}

TEST(ResolveModel, TakesANameFromTheHubCache) {
  const TempFolder folder;
  const fs::path snapshot = write_hub_model(folder, "cache");
  const auto environment = with_cache(folder.path() / "cache");
  const fs::path repository = folder.path() / "cache/models--Org--Moe-1.5B";
  folder.write(repository / "refs/refs/pr/1", std::string(kCommit) + "\n");
  for (const std::string& name :
       {std::string("Org/Moe-1.5B"), std::string("Org/Moe-1.5B@main"),
        std::string("Org/Moe-1.5B@refs/pr/1"), "Org/Moe-1.5B@" + std::string(kCommit)}) {
    const ModelFolder model = resolve_model(name, environment);
    EXPECT_EQ(model.folder, snapshot) << name;
    EXPECT_EQ(model.name, "Org/Moe-1.5B");
    EXPECT_TRUE(model.from_hub_cache);
  }
  const ModelFolder model = resolve_model("Org/Moe-1.5B", environment);
  EXPECT_EQ(read_config(model)["model_type"], "qwen3_moe");
  EXPECT_FALSE(read_generation_config(model).has_value());
  const auto source = open_tensors(model);
  EXPECT_EQ(source->describe(), "model.safetensors, 4 B");
  EXPECT_EQ(*reinterpret_cast<const float*>(source->view("w").data), 9.0f);
}

TEST(ResolveModel, ASnapshotsFolderMayBeNamedToo) {
  const TempFolder folder;
  const fs::path snapshot = write_hub_model(folder, "cache");
  const ModelFolder model = resolve_model(snapshot.string(), environment_of({}));
  EXPECT_FALSE(model.from_hub_cache);
  EXPECT_EQ(open_tensors(model)->list().size(), 1u);
}

TEST(ResolveModel, AFolderWinsOverTheCache) {
  const TempFolder folder;
  write_hub_model(folder, "cache");
  fs::create_directories(folder.path() / "Org/Moe-1.5B");
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  const ModelFolder model = resolve_model("Org/Moe-1.5B", with_cache(folder.path() / "cache"));
  fs::current_path(before);
  EXPECT_FALSE(model.from_hub_cache);
  EXPECT_EQ(model.name, "Moe-1.5B");
}

TEST(HubCache, FollowsTheVariablesInOrder) {
  using Variables = std::map<std::string, std::string>;
  const auto cache = [](const Variables& variables) {
    return hub_cache_folder(environment_of(variables)).value_or("none").string();
  };
  Variables variables = {
      {"HF_HUB_CACHE", "/a"}, {"HF_HOME", "/b"}, {"XDG_CACHE_HOME", "/c"}, {"HOME", "/home/u"}};
  EXPECT_EQ(cache(variables), "/a");
  variables["HF_HUB_CACHE"] = "~/a";
  EXPECT_EQ(cache(variables), "/home/u/a");
  variables["HF_HUB_CACHE"] = "";
  EXPECT_EQ(cache(variables), "/b/hub");
  variables.erase("HF_HOME");
  EXPECT_EQ(cache(variables), "/c/huggingface/hub");
  variables.erase("XDG_CACHE_HOME");
  EXPECT_EQ(cache(variables), "/home/u/.cache/huggingface/hub");
  variables.erase("HOME");
  EXPECT_EQ(cache(variables), "none");
}

TEST(HubCache, ParsesNames) {
  const auto parsed = [](std::string_view text) {
    const auto name = parse_hub_name(text);
    return name ? name->repository + "|" + name->revision : "no";
  };
  EXPECT_EQ(parsed("Qwen/Qwen3-30B-A3B"), "Qwen/Qwen3-30B-A3B|main");
  EXPECT_EQ(parsed("gpt2"), "gpt2|main");
  EXPECT_EQ(parsed("a/b@v1.0"), "a/b|v1.0");
  EXPECT_EQ(parsed("a/b@refs/pr/12"), "a/b|refs/pr/12");
  for (const char* wrong :
       {"",         "/",      "a/",       "/b",      "a/b/c",   "a//b",
        "../b",     "a/..",   "a/b..c",   "a--b/c",  "-a/b",    "a/b-",
        ".a/b",     "a/b.",   "a b/c",    "a/b\n",   "a/b@",    "a/b@..",
        "a/b@../x", "a/b@/x", "a/b@x//y", "a/b@x y", "a/b@x@y", "h\xc3\xa9/b"}) {
    EXPECT_EQ(parsed(wrong), "no") << wrong;
  }
  EXPECT_EQ(parsed("a/" + std::string(97, 'b')), "no");
}

TEST(ResolveModel, SaysWhereItLookedAndWhatFetchesIt) {
  const TempFolder folder;
  const auto environment = with_cache(folder.path());
  const Refusal absent = refusal([&] { resolve_model("Qwen/Qwen3-30B-A3B", environment); });
  EXPECT_EQ(absent.code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.what, AllOf(HasSubstr("Qwen/Qwen3-30B-A3B"),
                                 HasSubstr(folder.path() / "models--Qwen--Qwen3-30B-A3B")));
  EXPECT_THAT(absent.hint, HasSubstr("hf download Qwen/Qwen3-30B-A3B"));

  const Refusal revision = refusal([&] { resolve_model("a/b@v2", environment); });
  EXPECT_EQ(revision.code, ErrorCode::kNotFound);
  EXPECT_THAT(revision.hint, HasSubstr("hf download a/b --revision v2"));

  const Refusal bare = refusal([&] { resolve_model("tiny-mo@v2", environment); });
  EXPECT_EQ(bare.code, ErrorCode::kNotFound);
  EXPECT_THAT(bare.what, HasSubstr(folder.path() / "models--tiny-mo"));
  EXPECT_THAT(bare.hint, testing::StartsWith("a model is a folder"));

  const Refusal homeless = refusal([&] { resolve_model("a/b", environment_of({})); });
  EXPECT_EQ(homeless.code, ErrorCode::kNotFound);
  EXPECT_THAT(homeless.what, HasSubstr("HF_HUB_CACHE"));
}

TEST(ResolveModel, RefusesABrokenCache) {
  const TempFolder folder;
  const fs::path repository = folder.path() / "models--a--b";
  const auto environment = with_cache(folder.path());
  const auto resolve = [&] { resolve_model("a/b", environment); };

  fs::create_directories(repository / "snapshots");
  const Refusal no_ref = refusal(resolve);
  EXPECT_EQ(no_ref.code, ErrorCode::kNotFound);
  EXPECT_THAT(no_ref.what, HasSubstr(repository / "refs/main"));
  EXPECT_THAT(no_ref.hint, HasSubstr("hf download a/b"));

  folder.write(repository / "refs/main", kCommit);
  const Refusal no_snapshot = refusal(resolve);
  EXPECT_EQ(no_snapshot.code, ErrorCode::kNotFound);
  EXPECT_THAT(no_snapshot.what, HasSubstr(repository / "snapshots" / kCommit));

  const std::vector<std::string> not_commits = {
      "", "../../../etc", "..", "/etc", "a/b", std::string("abc\0def", 7), "abc\ndef", "a b"};
  for (const std::string& text : not_commits) {
    folder.write(repository / "refs/main", text);
    const Refusal bad_ref = refusal(resolve);
    EXPECT_EQ(bad_ref.code, ErrorCode::kInvalidData) << text;
    EXPECT_THAT(bad_ref.what, AllOf(HasSubstr(repository / "refs/main"), HasSubstr("commit")));
  }
  folder.write(repository / "refs/main", std::string(1'000'000, 'a'));
  EXPECT_EQ(refusal(resolve).code, ErrorCode::kInvalidData);
}

TEST(ResolveModel, RefusesWhatIsNoModel) {
  const TempFolder folder;
  const auto code_and_text = [&](const std::string& name) {
    const Refusal said = refusal([&] { resolve_model(name, with_cache(folder.path())); });
    return std::make_pair(said.code, said.what + " / " + said.hint);
  };
  const auto gguf = folder.write("x.gguf", "GGUF").string();
  EXPECT_THAT(code_and_text(gguf),
              testing::Pair(ErrorCode::kUnsupported, AllOf(HasSubstr(gguf), HasSubstr("GGUF"))));
  const auto weights = folder.write("m/model.safetensors", "").string();
  EXPECT_THAT(code_and_text(weights),
              testing::Pair(ErrorCode::kUsage, AllOf(HasSubstr("is not a folder"),
                                                     HasSubstr((folder.path() / "m").string()))));
  EXPECT_THAT(code_and_text((folder.path() / "gone").string()),
              testing::Pair(ErrorCode::kNotFound, HasSubstr("no such folder")));
  EXPECT_THAT(code_and_text("./gone"),
              testing::Pair(ErrorCode::kNotFound, HasSubstr("no such folder")));
  EXPECT_EQ(code_and_text("").first, ErrorCode::kUsage);
  EXPECT_EQ(code_and_text(std::string("a\0b", 3)).first, ErrorCode::kUsage);
  EXPECT_EQ(code_and_text(std::string(5000, 'a')).first, ErrorCode::kUsage);
  EXPECT_EQ(code_and_text(weights + "/x").first, ErrorCode::kNotFound);
}

TEST(HubSnapshot, SymlinksMayLeadIntoItsOwnBlobsAlone) {
  const TempFolder folder;
  const fs::path snapshot = write_hub_model(folder, "cache");
  folder.write("cache/models--Org--Other/blobs/3333", "{}");
  folder.write("cache/secret", "{}");
  folder.write("cache/models--Org--Moe-1.5B/refs/json", "{}");
  const ModelFolder model = resolve_model("Org/Moe-1.5B", with_cache(folder.path() / "cache"));
  for (const char* target : {"../../../models--Org--Other/blobs/3333", "../../../secret",
                             "../../refs/json", "../../blobs/../refs/json"}) {
    fs::remove(snapshot / "config.json");
    fs::create_symlink(target, snapshot / "config.json");
    const Refusal said = refusal([&] { read_config(model); });
    EXPECT_EQ(said.code, ErrorCode::kInvalidData) << target;
    EXPECT_THAT(said.what, HasSubstr("symlink out of the model's folder"));
  }
  fs::remove(snapshot / "config.json");
  fs::create_symlink("../../blobs/4444", snapshot / "config.json");
  const Refusal incomplete = refusal([&] { read_config(model); });
  EXPECT_EQ(incomplete.code, ErrorCode::kInvalidData);
  EXPECT_THAT(incomplete.hint, HasSubstr("incomplete download"));
}

// Outside a cache, ../../blobs is as far away as any other folder.
TEST(HubSnapshot, ALookalikeOutsideACacheIsRefused) {
  for (const char* place : {"repo/snapshots/1", "models--a--b/shots/1"}) {
    const TempFolder folder;
    const fs::path model = folder.path() / place;
    fs::create_directories(model);
    folder.write(model / "../../blobs/1111", "{}");
    fs::create_symlink("../../blobs/1111", model / "config.json");
    EXPECT_EQ(refusal([&] {
                read_config({model, "x", false});
              }).code,
              ErrorCode::kInvalidData)
        << place;
  }
}

TEST(ReadConfig, ReadsObjectsAlone) {
  const TempFolder folder;
  const ModelFolder model{folder.path(), "m", false};
  const Refusal absent = refusal([&] { read_config(model); });
  EXPECT_EQ(absent.code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.what, HasSubstr("no config.json"));

  folder.write("weights.gguf", "");
  EXPECT_EQ(refusal([&] { read_config(model); }).code, ErrorCode::kUnsupported);

  folder.write("config.json", R"({"a":1})");
  folder.write("generation_config.json", R"({"b":2})");
  EXPECT_EQ(read_config(model)["a"], 1);
  EXPECT_EQ((*read_generation_config(model))["b"], 2);

  const std::vector<std::pair<std::string, std::string>> broken = {
      {"[]", "not a JSON object"},
      {"", "not valid JSON"},
      {"{\"a\":1,\"a\":2}", "duplicate key \"a\""},
      {std::string(40, '['), "nested deeper than 32"},
      {std::string((16 << 20) + 1, ' '), "limit is 16777216"},
  };
  for (const auto& [text, fragment] : broken) {
    for (const char* name : {"config.json", "generation_config.json"}) {
      folder.write("config.json", "{}");
      folder.write(name, text);
      const Refusal said = refusal([&] {
        read_config(model);
        read_generation_config(model);
      });
      EXPECT_EQ(said.code, ErrorCode::kInvalidData);
      EXPECT_THAT(said.what,
                  AllOf(HasSubstr((folder.path() / name).string()), HasSubstr(fragment)));
    }
    folder.write("generation_config.json", "{}");
  }
}

TEST(FindFile, LooksInTheFolderAlone) {
  const TempFolder folder;
  const fs::path file = folder.write("m/tokenizer.json", "{}");
  folder.write("outside.json", "{}");
  const ModelFolder model{folder.path() / "m", "org/m", true};
  EXPECT_EQ(find_file(model, "tokenizer.json"), file);
  EXPECT_EQ(require_file(model, "tokenizer.json"), file);
  EXPECT_EQ(find_file(model, "absent.json"), std::nullopt);
  EXPECT_THROW(find_file(model, "../outside.json"), Error);
  EXPECT_THROW(find_file(model, file.string()), Error);
  const Refusal absent = refusal([&] { require_file(model, "absent.json"); });
  EXPECT_EQ(absent.code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.what, HasSubstr("absent.json"));
  EXPECT_THAT(absent.hint, HasSubstr("hf download org/m"));
}

}  // namespace
}  // namespace moeopt
