// The state of one render that everything shares: where we are, and what may still be spent.
// Invariant: outlives every Value made with it, as they give their memory back to it.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "text/jinja/limits.h"

namespace moeopt::jinja {

class Runtime {
 public:
  Runtime(std::string_view where, const RenderLimits& limits) : where_(where), limits_(limits) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // The template's line that is being evaluated; every message carries it.
  int line = 1;

  const RenderLimits& limits() const { return limits_; }

  // Throws Error(kInvalidData): "where:line: message".
  [[noreturn]] void fail_text(std::string_view message) const;

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_text(fmt::format(format, std::forward<Args>(args)...));
  }

  void step(std::size_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) fail_steps();
  }

  // The cost of copying or scanning `bytes` of text.
  void step_bytes(std::size_t bytes) { step(1 + bytes / 64); }

  // The cost of looking at each character of `bytes` of text.
  void step_characters(std::size_t bytes) { step(1 + bytes / 8); }

  void take_memory(std::size_t bytes);
  void give_memory(std::size_t bytes) { memory_ -= bytes; }

  void enter() {
    if (++depth_ > limits_.depth) fail_depth();
  }
  void leave() { --depth_; }

 private:
  [[noreturn]] void fail_steps() const;
  [[noreturn]] void fail_depth() const;

  std::string where_;
  RenderLimits limits_;
  std::size_t steps_ = 0;
  std::size_t memory_ = 0;
  int depth_ = 0;
};

// One level of nesting for as long as it lives.
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& runtime) : runtime_(runtime) { runtime_.enter(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;
  ~DepthGuard() { runtime_.leave(); }

 private:
  Runtime& runtime_;
};

// Bytes counted against a Runtime until destroyed.
class MemoryCharge {
 public:
  MemoryCharge() = default;
  MemoryCharge(Runtime& runtime, std::size_t bytes) : runtime_(&runtime), bytes_(bytes) {
    runtime.take_memory(bytes);
  }
  MemoryCharge(const MemoryCharge&) = delete;
  MemoryCharge& operator=(const MemoryCharge&) = delete;
  ~MemoryCharge() {
    if (runtime_ != nullptr) runtime_->give_memory(bytes_);
  }

 private:
  Runtime* runtime_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace moeopt::jinja
