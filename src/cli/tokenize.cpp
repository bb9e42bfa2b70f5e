// `moeopt tokenize`: text to ids and back, as the model sees it.
#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/model_folder.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace moeopt::cli {
namespace {

constexpr std::size_t kMessagesLimitBytes = std::size_t{256} << 20;

struct TokenizeFlags {
  std::string model, standard_input, messages, text;
  std::vector<std::int32_t> ids;
  bool no_special = false, skip_special = false, json = false;
  CLI::Option *messages_option = nullptr, *text_option = nullptr, *decode_option = nullptr;
};

std::string dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// The rendered prompt of a file with [{role, content}, ...] or {"messages": ..., "tools": ...}.
std::string render(const ModelFolder& folder, const std::string& file) {
  const auto chat_template = load_chat_template(folder.folder);
  if (!chat_template) {
    throw_error(ErrorCode::kNotFound, "{}: no chat template", folder.folder.string());
  }
  nlohmann::ordered_json inputs = parse_ordered_json(read_file(file, kMessagesLimitBytes), file);
  if (inputs.is_array()) inputs = {{"messages", std::move(inputs)}};
  if (!inputs.is_object() || !inputs.contains("messages")) {
    throw_error(ErrorCode::kInvalidData, "{}: expected a list of messages, or an object with one",
                file);
  }
  if (!inputs.contains("add_generation_prompt")) inputs["add_generation_prompt"] = true;
  return chat_template->render(inputs);
}

int tokenize(const TokenizeFlags& flags) {
  const int asked = static_cast<int>(flags.messages_option->count() > 0) +
                    static_cast<int>(flags.text_option->count() > 0) +
                    static_cast<int>(flags.decode_option->count() > 0);
  if (asked > 1) throw_error(ErrorCode::kUsage, "give one of --text, --messages and --decode");
  const ModelFolder folder = resolve_model(flags.model);
  const Tokenizer tokenizer = Tokenizer::from_file(require_file(folder, "tokenizer.json"));

  if (flags.decode_option->count() > 0) {
    for (const std::int32_t id : flags.ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) {
        throw_error(ErrorCode::kUsage, "--decode: id {} is outside the vocabulary of {}", id,
                    tokenizer.vocab_size());
      }
    }
    const std::string text = tokenizer.decode(flags.ids, flags.skip_special);
    write_output(flags.json ? dump({{"text", text}}) : text + "\n");
    return 0;
  }

  nlohmann::ordered_json out;
  std::vector<std::int32_t> ids;
  if (flags.messages_option->count() > 0) {
    const std::string prompt = render(folder, flags.messages);
    ids = tokenizer.encode(prompt, /*add_special_tokens=*/false);
    out["ids"] = ids;
    out["text"] = prompt;
  } else {
    std::string text = flags.text;
    if (asked == 0) text.assign(std::istreambuf_iterator<char>(std::cin), {});
    ids = tokenizer.encode(text, !flags.no_special);
    out["ids"] = ids;
  }
  write_output(flags.json ? dump(out) : fmt::format("{}\n", fmt::join(ids, " ")));
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& program, int& exit_code) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb = program.add_subcommand("tokenize", "Text to token ids, and back");
  verb->add_option("model", flags->model, "Folder (tokenizer.json is enough) or name")
      ->required()
      ->envname("MOEOPT_MODEL");
  verb->add_option("input", flags->standard_input, "- reads text from standard input (the default)")
      ->check(CLI::IsMember({"-"}));
  flags->text_option = verb->add_option("-t,--text", flags->text, "This text")->type_name("TEXT");
  flags->messages_option =
      verb->add_option("-m,--messages", flags->messages, "Conversation, by the chat template")
          ->type_name("FILE.json");
  flags->decode_option = verb->add_option("-d,--decode", flags->ids, "Token ids to turn into text")
                             ->delimiter(',')
                             ->type_name("IDS");
  verb->add_flag("--no-special", flags->no_special, "Leave out what the post-processor adds");
  verb->add_flag("--skip-special", flags->skip_special, "With --decode: no control tokens");
  verb->add_flag("--json", flags->json, "{\"ids\": [...]}, {\"text\": ...}");
  verb->callback([flags, &exit_code] { exit_code = tokenize(*flags); });
}

}  // namespace moeopt::cli
