// The memory of request bodies: what all connections together may hold, by what has arrived.
// Invariants: used() is the sum of the shares; a share holds what its text has allocated, and no
// more than the limit is ever taken. A length that is announced takes nothing. Where there is no
// room, bodies that come slowly give way. One thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace moeopt::serve {

class BodyShare;

class BodyBudget {
 public:
  using Clock = std::chrono::steady_clock;

  // `patience`: how long a body may take for 64 KiB when others want its room.
  explicit BodyBudget(std::size_t limit, Clock::duration patience = std::chrono::seconds(1))
      : limit_(limit), patience_(patience) {}

  std::size_t used() const { return used_; }

 private:
  friend class BodyShare;
  bool take(std::size_t bytes, const BodyShare& asks);

  std::size_t limit_;
  Clock::duration patience_;
  std::size_t used_ = 0;
  std::list<BodyShare*> coming_;  // that hold something; whose last 64 KiB came first is first
};

// One body that grows as its bytes come.
class BodyShare {
 public:
  explicit BodyShare(BodyBudget& budget) : budget_(budget), place_(budget.coming_.end()) {}
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;
  ~BodyShare() { drop(); }

  // Where the length is known, no more than that is ever allocated.
  void announce(std::size_t length) { length_ = length; }
  // False: there is no room for them, and the text is as it was; or it gave way.
  bool append(std::string_view bytes);
  // Called when the text was dropped for the sake of another.
  void on_give_way(std::function<void()> call) { on_give_way_ = std::move(call); }
  bool gave_way() const { return gave_way_; }
  // The text leaves; its memory stays taken until drop().
  std::string take_text();
  void drop();

 private:
  friend class BodyBudget;
  void came_further();
  void leave_line();
  void give_way();

  BodyBudget& budget_;
  std::string text_;
  std::optional<std::size_t> length_;
  std::size_t taken_ = 0;
  std::list<BodyShare*>::iterator place_;  // coming_.end(): not in it
  BodyBudget::Clock::time_point last_step_;
  std::function<void()> on_give_way_;
  bool gave_way_ = false;
};

}  // namespace moeopt::serve
