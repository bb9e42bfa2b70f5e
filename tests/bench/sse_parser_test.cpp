#include "bench/sse_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "bench/random.h"

namespace moeopt::bench {
namespace {

using testing::ElementsAre;

std::vector<std::string> events_of(const std::vector<std::string>& pieces) {
  SseParser parser;
  std::vector<std::string> events;
  for (const std::string& piece : pieces) {
    parser.push(piece, [&events](std::string_view data) { events.emplace_back(data); });
  }
  return events;
}

TEST(SseParser, ReadsTheStandardsExamples) {
  EXPECT_THAT(events_of({"data: YHOO\ndata: +2\ndata: 10\n\n"}), ElementsAre("YHOO\n+2\n10"));
  EXPECT_THAT(events_of({": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
                         "data:  third event\n\n"}),
              ElementsAre("first event", "second event", " third event"));
  // The last block is not ended by a blank line.
  EXPECT_THAT(events_of({"data\n\ndata\ndata\n\ndata:"}), ElementsAre("", "\n"));
  EXPECT_THAT(events_of({"data:test\n\ndata: test\n\n"}), ElementsAre("test", "test"));
}

TEST(SseParser, KnowsAllThreeLineEndsAndOneMark) {
  EXPECT_THAT(events_of({"data: a\r\rdata: b\r\n\r\ndata: c\n\n"}), ElementsAre("a", "b", "c"));
  EXPECT_THAT(events_of({"\xEF\xBB\xBF"
                         "data: a\n\n\xEF\xBB\xBF"
                         "data: b\n\n"}),
              ElementsAre("a"));
  EXPECT_THAT(events_of({"database: x\n data: y\nDATA: z\n\n"}), ElementsAre());
}

TEST(SseParser, SeesTheSameHoweverTheBytesAreCut) {
  const std::string stream =
      "\xEF\xBB\xBF: hi\r\n\r\ndata: {\"text\": \"gr\xC3\xBC\xC3\x9F\"}\r\n\r\nevent: x\rdata: 1\r"
      "data: 2\r\rid: 7\ndata\n\ndata: [DONE]\n\n\n\r\n\rdata:tail";
  const auto whole = events_of({stream});
  EXPECT_THAT(whole, ElementsAre("{\"text\": \"gr\xC3\xBC\xC3\x9F\"}", "1\n2", "", "[DONE]"));
  for (std::size_t a = 0; a <= stream.size(); ++a) {
    for (std::size_t b = a; b <= stream.size(); ++b) {
      ASSERT_EQ(events_of({stream.substr(0, a), stream.substr(a, b - a), stream.substr(b)}), whole)
          << a << " " << b;
    }
  }
  std::vector<std::string> bytes;
  for (const char c : stream) bytes.emplace_back(1, c);
  EXPECT_EQ(events_of(bytes), whole);
}

TEST(SseParser, SaysWhetherAnEventIsOpen) {
  SseParser parser;
  const auto ignore = [](std::string_view) {};
  EXPECT_FALSE(parser.is_inside_event());
  parser.push("dat", ignore);
  EXPECT_TRUE(parser.is_inside_event());
  parser.push("a: x\n", ignore);
  EXPECT_TRUE(parser.is_inside_event());
  parser.push("\n", ignore);
  EXPECT_FALSE(parser.is_inside_event());
}

TEST(SseParser, KeepsNoMoreThanItsLimit) {
  const auto ignore = [](std::string_view) {};
  for (const std::string& endless : {std::string("data: 0123456789"),
                                     std::string("data: 01234567\n"), std::string(":comment")}) {
    SseParser parser(1000);
    bool refused = false;
    for (int i = 0; i < 200 && !refused; ++i) {
      try {
        parser.push(endless, ignore);
      } catch (const Error& error) {
        refused = true;
        EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      }
    }
    EXPECT_TRUE(refused) << endless;
  }
  SseParser parser(1000);
  int events = 0;
  for (int i = 0; i < 1000; ++i) {
    parser.push("data: 0123456789\n\n", [&events](std::string_view) { ++events; });
  }
  EXPECT_EQ(events, 1000);
}

}  // namespace
}  // namespace moeopt::bench
