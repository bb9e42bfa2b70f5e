#include "serve/http/framing.h"

#include <gtest/gtest.h>

namespace moeopt::serve {
namespace {

HttpRequest request_of(std::vector<HttpHeader> headers) {
  HttpRequest request;
  request.method = "POST";
  request.path = "/x";
  request.headers = std::move(headers);
  return request;
}

int fault(std::vector<HttpHeader> headers, unsigned version = 11) {
  const auto found = framing_fault(request_of(std::move(headers)), version, 5);
  return found ? found->status : 0;
}

TEST(Framing, TakesOrdinaryRequests) {
  EXPECT_EQ(fault({{"Host", "a"}}), 0);
  EXPECT_EQ(fault({{"host", "a"}, {"content-length", "17"}}), 0);
  EXPECT_EQ(fault({{"Host", "a"}, {"TRANSFER-ENCODING", "Chunked"}}), 0);
  EXPECT_EQ(fault({}, 10), 0);
}

TEST(Framing, RefusesWhatTwoParsersCouldReadDifferently) {
  EXPECT_EQ(fault({}), 400);
  EXPECT_EQ(fault({{"Host", "a"}, {"Host", "a"}}), 400);
  EXPECT_EQ(fault({{"Host", "a"}, {"Content-Length", "1"}, {"Content-Length", "1"}}), 400);
  for (const char* length : {"", "+1", "-1", "1,1", "1 1", "0x1", "99999999999999999999"}) {
    EXPECT_EQ(fault({{"Host", "a"}, {"Content-Length", length}}), 400) << length;
  }
  EXPECT_EQ(fault({{"Host", "a"}, {"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}}), 400);
  for (const char* encoding : {"", "identity", "chunked, chunked", "gzip, chunked", "xchunked"}) {
    EXPECT_EQ(fault({{"Host", "a"}, {"Transfer-Encoding", encoding}}), 400) << encoding;
  }
  EXPECT_EQ(fault({{"Host", "a"}, {"Transfer-Encoding", "chunked"}}, 10), 400);
  EXPECT_EQ(fault({{"Host", std::string("a\0b", 3)}}), 400);
  EXPECT_EQ(fault({{"Host", "a"}}, 20), 505);
  EXPECT_EQ(fault({{"Host", "a"}, {"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""}}), 431);
  HttpRequest elsewhere = request_of({{"Host", "a"}});
  elsewhere.path = "http://b/";
  EXPECT_TRUE(framing_fault(elsewhere, 11, 5));
}

TEST(Framing, HeadsOfResponses) {
  HttpResponse response;
  response.status = 429;
  response.headers = {{"Retry-After", "1"}};
  response.body = "{}";
  const std::string head = response_head(response, "id-1", true, BodyFraming::kLength);
  EXPECT_TRUE(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_NE(head.find("\r\nRetry-After: 1\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nContent-Length: 2\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nX-Request-Id: id-1\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("Connection: keep-alive\r\n\r\n"));
  const std::string stream = response_head(response, "", false, BodyFraming::kChunked);
  EXPECT_EQ(stream.find("Content-Length"), std::string::npos);
  EXPECT_NE(stream.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
}

TEST(Framing, AnEmptyPieceIsNoChunk) {
  std::string out;
  append_chunk(out, "");
  EXPECT_EQ(out, "");
  append_chunk(out, "hello world, hello");
  EXPECT_EQ(out, "12\r\nhello world, hello\r\n");
}

TEST(Framing, IdsThatMayBeRepeated) {
  EXPECT_TRUE(is_decent_id("abc-123_x.Y:z"));
  for (const std::string& bad : {std::string(), std::string(129, 'a'), std::string("a b"),
                                 std::string("a\r\nSet-Cookie: x"), std::string("\xff")}) {
    EXPECT_FALSE(is_decent_id(bad));
  }
  EXPECT_NE(make_id(), make_id());
  EXPECT_EQ(make_id().size(), 32u);
}

}  // namespace
}  // namespace moeopt::serve
