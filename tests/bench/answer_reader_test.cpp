#include "bench/answer_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "bench/stream_event.h"

namespace moeopt::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(StreamEvent, ReadsCompletionsAndChats) {
  StreamEvent event = parse_stream_event(R"({"choices":[{"text":"a","finish_reason":null}]})");
  EXPECT_TRUE(event.has_text);
  EXPECT_EQ(event.finish_reason, "");
  event = parse_stream_event(R"({"choices":[{"text":"","finish_reason":"stop"}],"usage":null})");
  EXPECT_FALSE(event.has_text);
  EXPECT_EQ(event.finish_reason, "stop");
  EXPECT_FALSE(event.usage);
  EXPECT_FALSE(
      parse_stream_event(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})").has_text);
  EXPECT_TRUE(parse_stream_event(R"({"choices":[{"delta":{"content":"x"}}]})").has_text);
  EXPECT_TRUE(parse_stream_event(R"({"choices":[{"delta":{"reasoning_content":"x"}}]})").has_text);
  EXPECT_TRUE(parse_stream_event(
                  R"({"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]})")
                  .has_text);
  EXPECT_FALSE(
      parse_stream_event(R"({"text":"a","choices":[{"logprobs":{"text":"a","tokens":["a"]}}]})")
          .has_text);
}

TEST(StreamEvent, ReadsUsageAndErrors) {
  const StreamEvent event = parse_stream_event(
      R"({"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,
          "prompt_tokens_details":{"cached_tokens":8}}})");
  ASSERT_TRUE(event.usage);
  EXPECT_EQ(event.usage->prompt_tokens, 12);
  EXPECT_EQ(event.usage->output_tokens, 3);
  EXPECT_EQ(event.usage->cached_tokens, 8);
  EXPECT_EQ(parse_stream_event(R"({"error":{"message":"full","code":500}})").error, "full");
  EXPECT_EQ(parse_stream_event(R"({"error":"full"})").error, "full");
  EXPECT_FALSE(parse_stream_event(R"({"choices":[],"error":null})").error);
}

TEST(StreamEvent, RefusesWhatIsNoChunk) {
  for (const char* text : {"", "x", "{", "[]", "1", R"({"id":1})", R"([{"choices":[]}])",
                           "{\"choices\":[]} x", R"({"x":{"choices":[]}})"}) {
    EXPECT_THROW(parse_stream_event(text), Error) << text;
  }
}

std::string text_event(const char* text) {
  return std::string(R"(data: {"choices":[{"text":")") + text + "\"}]}\n\n";
}

TEST(AnswerReader, TimesTheEventsWithText) {
  RequestRecord record;
  AnswerReader answer(record);
  answer.push(text_event(""), 5);  // no text: no token yet
  answer.push(text_event("a"), 100);
  answer.push(text_event("b") + text_event("c").substr(0, 9), 150);
  answer.push(text_event("c").substr(9), 175);
  answer.push("data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n", 200);
  EXPECT_FALSE(answer.is_done());
  answer.push(
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n"
      "data: [DONE]\n\ndata: not looked at\n\n",
      230);
  EXPECT_TRUE(answer.is_done());
  answer.push("data: nor this\n\n", 900);
  answer.end(1000);
  EXPECT_TRUE(record.ok());
  EXPECT_EQ(record.first_text_us, 100);
  EXPECT_EQ(record.last_text_us, 175);
  EXPECT_EQ(record.end_us, 230);
  EXPECT_THAT(record.gaps_us, ElementsAre(50, 25));
  EXPECT_EQ(record.output_tokens, 4);  // the server's count, not the events'
  EXPECT_EQ(record.prompt_tokens, 9);
  EXPECT_EQ(record.text_events, 3);
  EXPECT_EQ(record.finish_reason, "length");
  EXPECT_DOUBLE_EQ(record.token_ms(), 0.025);  // 75 us over the 3 tokens after the first
}

TEST(AnswerReader, CountsEventsWithoutUsage) {
  RequestRecord record;
  AnswerReader answer(record);
  answer.push(text_event("a") + text_event("b") + "data: [DONE]\n\n", 10);
  EXPECT_FALSE(record.has_usage);
  EXPECT_EQ(record.output_tokens, 2);
}

TEST(AnswerReader, AnEndIsAnAnswerOnlyAfterAFinishReason) {
  RequestRecord whole, cut, inside;
  AnswerReader first(whole), second(cut), third(inside);
  const std::string last = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
  first.push(text_event("a") + last, 10);
  first.end(20);
  EXPECT_TRUE(whole.ok());
  EXPECT_EQ(whole.end_us, 20);
  second.push(text_event("a"), 10);
  second.end(20);
  EXPECT_EQ(cut.error, "closed");
  third.push(last + "data: {\"cho", 10);
  third.end(20);
  EXPECT_EQ(inside.error, "closed");
}

TEST(AnswerReader, SaysWhatIsWrongWithAStream) {
  RequestRecord malformed, server;
  AnswerReader first(malformed), second(server);
  first.push(text_event("a") + "data: {nonsense\n\n" + text_event("b"), 10);
  EXPECT_TRUE(first.is_done());
  EXPECT_EQ(malformed.error, "malformed");
  EXPECT_THAT(malformed.error_text, HasSubstr("not valid JSON"));
  EXPECT_EQ(malformed.text_events, 1);
  second.push("data: {\"error\":{\"message\":\"out\\u0007 of blocks\"}}\n\ndata: [DONE]\n\n", 10);
  EXPECT_EQ(server.error, "server");
  EXPECT_EQ(server.error_text, "out\\x07 of blocks");
}

}  // namespace
}  // namespace moeopt::bench
