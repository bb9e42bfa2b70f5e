#include "bench/url.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace moeopt::bench {
namespace {

TEST(Url, TakesWhatPeopleWrite) {
  const std::pair<const char*, const char*> cases[] = {
      {"http://127.0.0.1:8000", "http://127.0.0.1:8000"},
      {"127.0.0.1:8000", "http://127.0.0.1:8000"},
      {"http://localhost", "http://localhost:80"},
      {"http://host:8000/v1", "http://host:8000"},
      {"http://host:8000/v1/", "http://host:8000"},
      {"http://host:8000/proxied/v1", "http://host:8000/proxied"},
      {"http://host:8000/proxied//", "http://host:8000/proxied"},
      {"http://[::1]:8000", "http://[::1]:8000"},
      {"[::1]", "http://[::1]:80"}};
  for (const auto& [text, meant] : cases) EXPECT_EQ(parse_url(text).text(), meant) << text;
  EXPECT_TRUE(parse_url("http://127.3.2.1:1").is_loopback());
  EXPECT_TRUE(parse_url("[::1]:1").is_loopback());
  EXPECT_FALSE(parse_url("http://10.0.0.1:1").is_loopback());
}

TEST(Url, RefusesTheRest) {
  for (const char* text :
       {"", "http://", "http://:8000", "http://host:", "http://host:0", "http://host:65536",
        "http://host:80x", "http://a b", "http://u@h:1", "http://h:1/?q", "http://h:1/#f",
        "http://[::1", "http://[::1]x", "ftp://h:1", "http://h\r\nX: y"}) {
    EXPECT_THROW(parse_url(text), Error) << text;
  }
  try {
    parse_url("https://h");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  }
}

}  // namespace
}  // namespace moeopt::bench
