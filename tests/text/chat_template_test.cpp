// Finding and loading the template of a model folder.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"

namespace moeopt {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

class ChatTemplateFolder : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(testing::TempDir()) / "chat_template" / test->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const fs::path& name, std::string_view text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  LoadedChatTemplate load() {
    auto loaded = load_chat_template(folder_);
    EXPECT_TRUE(loaded.has_value());
    return *std::move(loaded);
  }
  std::string error() {
    try {
      load_chat_template(folder_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      return std::string(error.what()).substr(folder_.string().size() + 1);
    }
    return "no error";
  }

  fs::path folder_;
};

TEST_F(ChatTemplateFolder, NothingThere) {
  EXPECT_FALSE(load_chat_template(folder_).has_value());
  write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  EXPECT_FALSE(load_chat_template(folder_).has_value());
  write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_FALSE(load_chat_template(folder_).has_value());
}

TEST_F(ChatTemplateFolder, TextInTheConfig) {
  write(
      "tokenizer_config.json",
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "unk_token": null,
            "pad_token": {"lstrip": true},
            "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ tools }}"})");
  const ordered_json inputs = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  EXPECT_EQ(load().render(inputs), "<s>hi</s>None");
}

TEST_F(ChatTemplateFolder, InputsComeBeforeSpecialTokens) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": "{{ bos_token }}"})");
  EXPECT_EQ(load().render({{"bos_token", ""}}), "");
}

TEST_F(ChatTemplateFolder, SpecialTokensMapFillsIn) {
  write("tokenizer_config.json",
        R"({"bos_token": "<a>", "chat_template": "{{ bos_token }}{{ eos_token }}"})");
  write("special_tokens_map.json", R"({"bos_token": "<b>", "eos_token": {"content": "<c>"}})");
  EXPECT_EQ(load().render(ordered_json::object()), "<a><c>");
}

TEST_F(ChatTemplateFolder, NamedTemplates) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "plain"},
                              {"name": "rag", "template": "{% broken"},
                              {"name": "tool_use", "template": "with {{ tools|length }}"}]})");
  const LoadedChatTemplate loaded = load();
  EXPECT_EQ(loaded.render(ordered_json::object()), "plain");
  EXPECT_EQ(loaded.render({{"tools", nullptr}}), "plain");
  EXPECT_EQ(loaded.render({{"tools", ordered_json::array({1, 2})}}), "with 2");
}

TEST_F(ChatTemplateFolder, FileBeforeConfig) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": "config"})");
  write("chat_template.jinja", "{{ bos_token }}file\n");
  EXPECT_EQ(load().render(ordered_json::object()), "<s>file");
  write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(load().render({{"tools", ordered_json::array()}}), "tools");
  EXPECT_EQ(load().render(ordered_json::object()), "<s>file");
}

TEST_F(ChatTemplateFolder, OrderOfKeysIsKept) {
  write("chat_template.jinja", "{{ tools|tojson }}{{ tools.items()|first }}");
  EXPECT_EQ(load().render({{"tools", {{"z", 1}, {"a", 2}, {"m", {{"b", 1}, {"a", 2}}}}}}),
            "{\"z\": 1, \"a\": 2, \"m\": {\"b\": 1, \"a\": 2}}('z', 1)");
}

TEST_F(ChatTemplateFolder, ErrorsNameFileAndLine) {
  write("chat_template.jinja", "a\n{% if x %}\nb");
  EXPECT_TRUE(error().starts_with("chat_template.jinja:3: Unexpected end of template")) << error();
  fs::remove(folder_ / "chat_template.jinja");
  write("tokenizer_config.json", R"({"chat_template": "a\n\n{{ 1 + }}"})");
  EXPECT_EQ(error(), "tokenizer_config.json: chat_template:3: unexpected 'end of print statement'");
  write("tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_EQ(error(),
            "tokenizer_config.json: chat_template: neither a text nor a list of templates");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": "y"}]})");
  EXPECT_EQ(error(), "tokenizer_config.json: chat_template: no template is named \"default\"");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_EQ(error(),
            "tokenizer_config.json: chat_template: an entry without the texts name and template");
  write("tokenizer_config.json", R"({"chat_template": "x", "chat_template": "y"})");
  EXPECT_NE(error().find("duplicate key"), std::string::npos) << error();
}

TEST_F(ChatTemplateFolder, RaiseExceptionPassesOn) {
  write("chat_template.jinja", "a\n{{ raise_exception('no system role, ' ~ messages|length) }}");
  try {
    load().render({{"messages", ordered_json::array({1})}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              (folder_ / "chat_template.jinja").string() + ":2: no system role, 1");
  }
}

// One template, many requests at once.
TEST(ChatTemplate, RendersInParallel) {
  const ChatTemplate chat = ChatTemplate::parse(
      "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s ~ m %}{% endfor %}"
      "{{ ns.s }}",
      "t");
  std::vector<std::thread> threads;
  std::vector<std::string> texts(4);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 50; ++round) {
        texts[i] = chat.render({{"messages", ordered_json::array({i, round, "x"})}});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(texts[i], std::to_string(i) + "49x");
  }
}

}  // namespace
}  // namespace moeopt
