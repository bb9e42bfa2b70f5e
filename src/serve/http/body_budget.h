// The memory of request bodies: what all connections together may hold, by what has arrived.
// Invariants: used() is the sum of the shares; a share holds what its text has allocated, and no
// more than the limit is ever taken. A length that is announced takes nothing. One thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace moeopt::serve {

class BodyBudget {
 public:
  explicit BodyBudget(std::size_t limit) : limit_(limit) {}

  bool take(std::size_t bytes);
  void give_back(std::size_t bytes) { used_ -= bytes; }
  std::size_t used() const { return used_; }

 private:
  std::size_t limit_;
  std::size_t used_ = 0;
};

// One body that grows as its bytes come.
class BodyShare {
 public:
  explicit BodyShare(BodyBudget& budget) : budget_(budget) {}
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;
  ~BodyShare() { drop(); }

  // Where the length is known, no more than that is ever allocated.
  void announce(std::size_t length) { length_ = length; }
  // False: there is no room for them, and the text is as it was.
  bool append(std::string_view bytes);
  // The text leaves; its memory stays taken until drop().
  std::string take_text() { return std::move(text_); }
  void drop();

 private:
  BodyBudget& budget_;
  std::string text_;
  std::optional<std::size_t> length_;
  std::size_t taken_ = 0;
};

}  // namespace moeopt::serve
