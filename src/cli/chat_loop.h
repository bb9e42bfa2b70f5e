// The conversation on a terminal: line editing and history by libedit, /reset, /quit.
#pragma once

#include <functional>
#include <string>

#include "cli/session.h"
#include "engine/request.h"

namespace moeopt::cli {

// `make_request` gives each turn's request, without its prompt. Ctrl-C ends an answer, then the
// program; Ctrl-D ends the program. Returns the exit code.
int chat_loop(Session& session, const std::function<Request()>& make_request,
              const std::string& system);

}  // namespace moeopt::cli
