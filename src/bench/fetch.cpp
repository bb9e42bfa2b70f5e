#include "bench/fetch.h"

#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <exception>

#include "base/error.h"

namespace moeopt::bench {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::uint64_t kBodyLimitBytes = std::uint64_t{64} << 20;

asio::awaitable<void> exchange(beast::tcp_stream& stream,
                               const asio::ip::tcp::resolver::results_type& addresses,
                               const http::request<http::string_body>& request,
                               HttpAnswer& answer) {
  co_await stream.async_connect(addresses, asio::use_awaitable);
  co_await http::async_write(stream, request, asio::use_awaitable);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kBodyLimitBytes);
  co_await http::async_read(stream, buffer, parser, asio::use_awaitable);
  answer.status = parser.get().result_int();
  answer.body = std::move(parser.get().body());
}

}  // namespace

HttpAnswer fetch(const Url& url, std::string_view path, std::string_view body,
                 std::string_view api_key, std::chrono::milliseconds timeout) {
  asio::io_context loop(1);
  boost::system::error_code error;
  asio::ip::tcp::resolver resolver(loop);
  const auto addresses = resolver.resolve(url.host, url.port, error);
  if (error) throw_error(ErrorCode::kNotFound, "{}: {}", url.host, error.message());

  http::request<http::string_body> request(body.empty() ? http::verb::get : http::verb::post,
                                           url.base + std::string(path), 11);
  request.set(http::field::host, url.authority());
  request.set(http::field::user_agent, "moeopt-bench");
  request.set(http::field::connection, "close");
  if (!api_key.empty()) request.set(http::field::authorization, fmt::format("Bearer {}", api_key));
  if (!body.empty()) request.set(http::field::content_type, "application/json");
  request.body() = body;
  request.prepare_payload();

  HttpAnswer answer;
  std::exception_ptr failure;
  beast::tcp_stream stream(loop);
  stream.expires_after(timeout);
  asio::co_spawn(loop, exchange(stream, addresses, request, answer),
                 [&failure](const std::exception_ptr& thrown) { failure = thrown; });
  loop.run();
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const boost::system::system_error& thrown) {
    throw Error(ErrorCode::kIo, fmt::format("{}{}: {}", url.text(), path, thrown.code().message()),
                "is the server running, and is this its address?");
  }
  return answer;
}

}  // namespace moeopt::bench
