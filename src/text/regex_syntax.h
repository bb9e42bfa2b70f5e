// From the regular expressions of tokenizer.json (Oniguruma, Ruby syntax) to PCRE2's.
// Invariant: what is not known to mean the same in both is refused, never passed through.
#pragma once

#include <string>
#include <string_view>

namespace moeopt {

// The same expression for PCRE2 with UTF and UCP. `where` opens the message of Error(kUnsupported)
// for a construct outside the subset and Error(kInvalidData) for one that is malformed.
std::string translate_oniguruma(std::string_view pattern, std::string_view where);

}  // namespace moeopt
