// How messages are told apart on a connection: what a request's header may say about it, and the
// bytes of a response's header and of a chunk. Shapes that two parsers could read differently
// (request smuggling) are refused.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "serve/http/message.h"

namespace moeopt::serve {

struct FramingFault {
  int status;
  std::string message;
};

// Why a request with this header is refused before its body is read; `version` is 11 for HTTP/1.1.
std::optional<FramingFault> framing_fault(const HttpRequest& request, unsigned version,
                                          int max_headers);

enum class BodyFraming { kLength, kChunked, kUntilClose };

// Status line and headers, with `more` after the response's own, up to and with the empty line. No
// client input but `id`, which is decent.
std::string response_head(const HttpResponse& response, std::string_view id, bool keep_alive,
                          BodyFraming framing, std::span<const HttpHeader> more = {});

// Nothing for an empty piece: an empty chunk would end the body.
void append_chunk(std::string& out, std::string_view piece);

}  // namespace moeopt::serve
