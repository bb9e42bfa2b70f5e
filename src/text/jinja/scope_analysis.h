// Which names a block hides. Jinja decides when it compiles where each name of a block comes from:
// a name that a block sets before it reads it is the block's own from the start. Until it is set it
// is undefined there, and in the blocks inside, even where the inputs have one of that name.
#pragma once

#include "text/jinja/ast.h"

namespace moeopt::jinja {

// Fills in Body::hidden of `root` and of every block below it.
void find_hidden_names(Body& root);

}  // namespace moeopt::jinja
