#include "serve/http/framing.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

namespace moeopt::serve {
namespace {

int count(const HttpRequest& request, std::string_view name) {
  return static_cast<int>(std::ranges::count_if(
      request.headers, [name](const HttpHeader& h) { return same_header(h.name, name); }));
}

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  });
}

}  // namespace

std::optional<FramingFault> framing_fault(const HttpRequest& request, unsigned version,
                                          int max_headers) {
  if (version != 10 && version != 11) return FramingFault{505, "HTTP/1.1 and HTTP/1.0 are spoken"};
  if (static_cast<int>(request.headers.size()) > max_headers) {
    return FramingFault{431, fmt::format("more than {} header fields", max_headers)};
  }
  if (request.path.empty() || request.path.front() != '/') {
    return FramingFault{400, "the request's target must begin with /"};
  }
  for (const HttpHeader& header : request.headers) {
    if (has_control(header.value)) return FramingFault{400, "a control character in a header"};
  }
  const int n_hosts = count(request, "host");
  if (n_hosts > 1 || (version == 11 && n_hosts == 0)) {
    return FramingFault{400, "exactly one Host header is needed"};
  }
  const int n_lengths = count(request, "content-length");
  const int n_encodings = count(request, "transfer-encoding");
  if (n_lengths > 1) return FramingFault{400, "more than one Content-Length"};
  if (n_lengths == 1) {
    const std::string_view length = request.header("content-length");
    const bool digits = !length.empty() && length.size() < 19 &&
                        std::ranges::all_of(length, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) return FramingFault{400, "Content-Length is not a number"};
  }
  if (n_encodings > 0) {
    if (n_lengths > 0) return FramingFault{400, "both Content-Length and Transfer-Encoding"};
    if (version == 10) return FramingFault{400, "Transfer-Encoding in HTTP/1.0"};
    if (n_encodings > 1 || !same_header(request.header("transfer-encoding"), "chunked")) {
      return FramingFault{400, "the only Transfer-Encoding understood is chunked"};
    }
  }
  return std::nullopt;
}

std::string response_head(const HttpResponse& response, std::string_view id, bool keep_alive,
                          BodyFraming framing, std::span<const HttpHeader> more) {
  std::string head;
  auto out = std::back_inserter(head);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\n", response.status, status_text(response.status));
  fmt::format_to(out, "Date: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", fmt::gmtime(std::time(nullptr)));
  if (!response.content_type.empty() && response.status != 204) {
    fmt::format_to(out, "Content-Type: {}\r\n", response.content_type);
  }
  if (!id.empty()) fmt::format_to(out, "X-Request-Id: {}\r\n", id);
  head += "X-Content-Type-Options: nosniff\r\n";
  for (const auto headers : {std::span<const HttpHeader>(response.headers), more}) {
    for (const HttpHeader& header : headers) {
      fmt::format_to(out, "{}: {}\r\n", header.name, header.value);
    }
  }
  if (framing == BodyFraming::kLength && response.status != 204) {
    fmt::format_to(out, "Content-Length: {}\r\n", response.body.size());
  }
  if (framing == BodyFraming::kChunked) head += "Transfer-Encoding: chunked\r\n";
  head += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

void append_chunk(std::string& out, std::string_view piece) {
  if (piece.empty()) return;
  fmt::format_to(std::back_inserter(out), "{:x}\r\n{}\r\n", piece.size(), piece);
}

}  // namespace moeopt::serve
