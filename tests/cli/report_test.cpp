#include "cli/report.h"

#include <gtest/gtest.h>

#include "cli/generate.h"
#include "cli/terminal.h"

namespace moeopt::cli {
namespace {

TEST(ExpertsText, ShowsSharesOfTheLayersThatWorked) {
  ExpertCounts counts({4, 0, 4});
  counts.add(std::vector<std::uint32_t>{8, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0});
  const std::string text = experts_text(counts);
  EXPECT_NE(text.find("layer   0  █·▄▄    3/4 used, busiest #0 50%  #2 25%  #3 25%, max/mean 2.00"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("layer   1"), std::string::npos) << "a dense layer has no experts";
  EXPECT_EQ(text.find("layer   2"), std::string::npos) << "nothing was routed there";
}

TEST(ExpertsText, ManyExpertsShareBars) {
  ExpertCounts counts({256});
  std::vector<std::uint32_t> rows(256, 1);
  counts.add(rows);
  const std::string text = experts_text(counts);
  std::size_t bars = 0;
  for (std::size_t at = text.find("█"); at != std::string::npos; at = text.find("█", at + 1))
    ++bars;
  EXPECT_EQ(bars, 64u);
}

TEST(SummaryLine, HasTheFigures) {
  Generated generated;
  generated.n_prompt = 41;
  generated.finish = FinishReason::kStop;
  EXPECT_EQ(summary_line(generated), "41 prompt tokens, 0 generated (stop)");
  generated.tokens.resize(11);
  generated.first_token_s = 0.25;
  generated.total_s = 2.25;
  EXPECT_EQ(summary_line(generated),
            "41 prompt tokens, 11 generated (stop) · first after 250 ms · 5.0 tokens/s");
}

TEST(Styled, IsPlainWhereThereIsNoTerminal) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(styled(file, Style::kError, "text"), "text");
  std::fclose(file);
}

}  // namespace
}  // namespace moeopt::cli
