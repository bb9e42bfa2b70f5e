// What `moeopt eval` measures: perplexity of a text, accuracy on questions with known answers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/session.h"

namespace moeopt::cli {

struct Perplexity {
  double value = 0;        // exp of the mean negative log-likelihood
  std::size_t scored = 0;  // tokens behind it
};

constexpr int kPerplexityWindow = 512;

// The ids are cut into consecutive windows of kPerplexityWindow tokens; each window is scored on
// its own, from its second token on. Error(kUsage) when no token can be scored.
Perplexity perplexity(Session& session, std::span<const std::int32_t> ids,
                      const std::function<void(double fraction)>& on_progress);

struct Question {
  std::string question, answer;
};

// One JSON object a line with the strings `question` and `answer`. Error(kInvalidData) names file
// and line.
std::vector<Question> read_questions(const std::filesystem::path& file);

// What follows the last "####" of an answer, without white space around it; empty when there is
// none.
std::string_view final_answer(std::string_view text);

struct Accuracy {
  std::size_t right = 0, asked = 0;
  std::vector<std::string> texts;  // what the model said, in the order of the questions
};

// Asks each question in the model's chat format, greedily, at most `max_tokens` each; all at once,
// as many in a step as the plan has room for.
Accuracy ask(Session& session, std::span<const Question> questions, int max_tokens,
             const std::function<void(double fraction)>& on_progress);

}  // namespace moeopt::cli
