#include "cli/program.h"

int main(int argc, char** argv) {
  return moeopt::cli::run_program(argc, argv);
}
