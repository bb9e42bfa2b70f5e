#include "routing/counts_window.h"

namespace moeopt {

CountsWindow::CountsWindow(const ExpertCounts& total, Clock::time_point now)
    : latest_{now, total}, marked_(now) {
  marks_.fill(latest_);
}

void CountsWindow::update(const ExpertCounts& total, Clock::time_point now) {
  if (now - marked_ >= kStep) {
    newest_ = (newest_ + 1) % marks_.size();
    marks_[newest_] = latest_;
    marked_ = now;
  }
  latest_.since = now;
  latest_.total = total;
}

ExpertCounts CountsWindow::at(Clock::time_point now) const {
  const Clock::time_point begin = now - kLength;
  if (latest_.since <= begin) return latest_.total.since(latest_.total);
  std::size_t mark = newest_;
  while (marks_[mark].since > begin) {
    const std::size_t older = (mark + marks_.size() - 1) % marks_.size();
    if (older == newest_) break;
    mark = older;
  }
  return latest_.total.since(marks_[mark].total);
}

}  // namespace moeopt
