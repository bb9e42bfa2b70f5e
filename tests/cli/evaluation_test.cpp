#include "cli/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "cli/npy.h"
#include "engine/scoring.h"

namespace moeopt::cli {
namespace {

TEST(FinalAnswer, IsWhatFollowsTheLastMark) {
  EXPECT_EQ(final_answer("3 + 4 = 7\n#### 7"), "7");
  EXPECT_EQ(final_answer("#### 1 then #### 12 \n"), "12");
  EXPECT_EQ(final_answer("no mark"), "");
  EXPECT_EQ(final_answer("####"), "");
  EXPECT_EQ(final_answer("####   "), "");
}

TEST(Questions, NamesFileAndLine) {
  const auto file = std::filesystem::path(testing::TempDir()) / "questions.jsonl";
  const auto refused = [&](const std::string& text, const std::string& fragment) {
    std::ofstream(file, std::ios::trunc) << text;
    try {
      read_questions(file);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      EXPECT_NE(std::string(error.what()).find(fragment), std::string::npos) << error.what();
    }
  };
  refused("{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\"}",
          ".jsonl:2: needs the string \"answer\"");
  refused("{\"question\": 1, \"answer\": \"b\"}", ".jsonl:1: needs the string \"question\"");
  refused("[1]", "needs the string");
  refused("{", "not valid JSON");
  refused("\n\n", "no questions");
  std::ofstream(file, std::ios::trunc) << "{\"question\": \"a\", \"answer\": \"b\"}\n\n";
  const auto questions = read_questions(file);
  ASSERT_EQ(questions.size(), 1u);
  EXPECT_EQ(questions[0].question, "a");
  EXPECT_EQ(questions[0].answer, "b");
  std::filesystem::remove(file);
}

TEST(NegativeLogLikelihood, IsSoftmaxsInDouble) {
  const std::vector<float> even(8, 1000.0f);
  EXPECT_NEAR(negative_log_likelihood(even, 3), std::log(8.0), 1e-12);
  const std::vector<float> two = {0.0f, std::log(3.0f)};
  EXPECT_NEAR(negative_log_likelihood(two, 0), std::log(4.0), 1e-7);
  EXPECT_NEAR(negative_log_likelihood(two, 1), std::log(4.0 / 3.0), 1e-7);
}

TEST(Npy, HasAnAlignedHeaderAndTheValues) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const auto bytes = npy_bytes(values, 2, 3);
  ASSERT_GE(bytes.size(), 128u);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(text.substr(0, 6), "\x93NUMPY");
  const auto header = static_cast<std::size_t>(static_cast<unsigned char>(text[8])) +
                      256 * static_cast<std::size_t>(static_cast<unsigned char>(text[9]));
  EXPECT_EQ((10 + header) % 64, 0u);
  EXPECT_EQ(text[10 + header - 1], '\n');
  EXPECT_NE(text.find("'shape': (2, 3)"), std::string::npos);
  EXPECT_NE(text.find("'descr': '<f4'"), std::string::npos);
  ASSERT_EQ(bytes.size(), 10 + header + 24);
  EXPECT_EQ(std::memcmp(bytes.data() + 10 + header, values.data(), 24), 0);
}

}  // namespace
}  // namespace moeopt::cli
