// Unicode normalization form C, in linear time whatever the text.
#pragma once

#include <string>
#include <string_view>

namespace moeopt {

// Writes NFC of `text` (valid UTF-8) to `out` and returns true, or returns false when `text` is
// found to be in NFC already without looking closely.
bool normalize_nfc(std::string_view text, std::string& out);

}  // namespace moeopt
