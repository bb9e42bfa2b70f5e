// The program: parses the command line, runs one verb, turns errors into exit codes.
// Invariant: answers go to standard output, everything else to standard error.
#pragma once

namespace moeopt::cli {

// Exit code: 0, or base/error.h's for an Error, 130 after Ctrl-C with nothing to show.
int run_program(int argc, char** argv);

}  // namespace moeopt::cli
