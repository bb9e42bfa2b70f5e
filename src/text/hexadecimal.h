// Hexadecimal digits in texts.
#pragma once

namespace moeopt {

// Its value; -1 where it is none.
inline int hexadecimal_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
  return -1;
}

}  // namespace moeopt
