// The conversation on a terminal: line editing and history by libedit, /reset, /quit.
#pragma once

#include <string>

#include "cli/session.h"
#include "engine/request.h"

namespace moeopt::cli {

// `request` is the pattern of each turn, without its prompt. Ctrl-C ends an answer, then the
// program; Ctrl-D ends the program. Returns the exit code.
int chat_loop(Session& session, const Request& request, const std::string& system);

}  // namespace moeopt::cli
