// StepBudget: how many prefill tokens a step may hold so that its prefill share stays within a
// time, from what steps took so far. A pure function of its measurements: no clock, no randomness.
// It aims at a share of the limit, which moves with the machine: a step beyond the limit lowers it,
// every other raises it a little, so that about one step in 250 is beyond it.
// Invariant: never below one token (prefill goes on), never above max_tokens.
#pragma once

#include "model/model_spec.h"

namespace moeopt {

// What one step held and how long it took.
struct StepMeasurement {
  int decode_sequences = 0;
  int prefill_tokens = 0;
  double prefill_context = 0;  // sum over its prefill tokens of the positions each attended to
  double ms = 0;
};

class StepBudget {
 public:
  static constexpr int kFirstTokens = 64;  // before anything was measured
  // Of the limit: what is aimed at to begin with, and the bounds within which that moves.
  static constexpr double kAim = 0.7, kLeastAim = 0.3, kMostAim = 0.9;

  // `limit_ms`: of a step's prefill share; 0: no limit. `context_of_token`: the context length at
  // which attention costs a prefill token as much as everything else does.
  StepBudget(double limit_ms, int max_tokens, double context_of_token);

  void record(const StepMeasurement& step);

  // For a chunk whose first token is at `position`.
  int tokens_at(int position) const;

  // Milliseconds of a step without prefill, and of a prefill token at position 0; 0: not measured.
  double decode_ms() const { return decode_ms_; }
  double token_ms() const { return token_ms_; }

 private:
  double limit_ms_;
  int max_tokens_;
  double context_of_token_;
  double decode_ms_ = 0;
  double token_ms_ = 0;
  double aim_ = kAim;
  int largest_ = 0;  // prefill tokens of a measured step
};

// The context length at which attention costs a token about as much as its matrix products do, by
// counting multiplications; attention's run at half the rate.
double context_of_equal_cost(const ModelSpec& spec);

}  // namespace moeopt
