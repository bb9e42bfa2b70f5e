#include "bench/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/strings.h"

namespace moeopt::bench {
namespace {

constexpr std::size_t kFileLimitBytes = std::size_t{1} << 30;
constexpr int kMostOutputTokens = 1'000'000;

DatasetLine read_line(std::string_view text, const std::string& where) {
  OrderedJson json = parse_ordered_json(text, where);
  const auto refuse = [&where](std::string_view why) {
    throw_error(ErrorCode::kInvalidData, "{}: {}", where, why);
  };
  if (!json.is_object()) refuse("not a JSON object");
  DatasetLine line;
  const auto prompt = json.find("prompt"), messages = json.find("messages");
  if ((prompt == json.end()) == (messages == json.end())) {
    refuse("needs either \"prompt\" or \"messages\"");
  }
  if (messages != json.end()) {
    if (!messages->is_array() || messages->empty())
      refuse("\"messages\" is not a list of messages");
    line.is_chat = true;
    line.content = std::move(*messages);
  } else {
    const bool are_ids =
        prompt->is_array() && !prompt->empty() &&
        std::ranges::all_of(*prompt, [](const OrderedJson& id) { return id.is_number_unsigned(); });
    if (!prompt->is_string() && !are_ids) refuse("\"prompt\" is neither text nor token ids");
    line.content = std::move(*prompt);
  }
  if (const auto tokens = json.find("output_tokens"); tokens != json.end()) {
    const auto* count = tokens->get_ptr<const OrderedJson::number_unsigned_t*>();
    if (count == nullptr || *count < 1 || *count > kMostOutputTokens) {
      refuse(fmt::format("\"output_tokens\" is not a number from 1 to {}", kMostOutputTokens));
    }
    line.output_tokens = static_cast<int>(*count);
  }
  return line;
}

}  // namespace

std::vector<DatasetLine> read_dataset(const std::filesystem::path& file) {
  const std::string text = read_file(file, kFileLimitBytes);
  std::vector<DatasetLine> lines;
  int number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    lines.push_back(read_line(line, fmt::format("{} line {}", file.string(), number)));
  }
  if (lines.empty()) {
    throw_error(ErrorCode::kInvalidData, "{}: no prompts in it", file.string());
  }
  return lines;
}

}  // namespace moeopt::bench
