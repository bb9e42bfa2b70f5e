// StepBudget: how many prefill tokens a step may hold so that its prefill share stays within a
// time, from what steps took so far. A pure function of its measurements: no clock, no randomness.
// It aims at a share of the limit, which moves with the machine: a step that comes near the limit
// lowers it, every other raises it a little, so that about one step in 250 comes near it. What the
// decode part of a step takes cannot be seen while prefill shares it, and grows with the streams'
// contexts: now and then a step is to be decode alone. Invariant: never below one token (prefill
// goes on), never above max_tokens.
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
  // Steps with prefill and decode before one of decode alone: of a prompt's first, and of others.
  static constexpr int kFirstAlone = 4, kAlone = 50;
  // Of the limit: what is aimed at to begin with, and the bounds within which that moves.
  static constexpr double kAim = 0.7, kLeastAim = 0.3, kMostAim = 0.9;

  // `limit_ms`: of a step's prefill share; 0: no limit. `context_of_token`: the context length at
  // which attention costs a prefill token as much as everything else does.
  StepBudget(double limit_ms, int max_tokens, double context_of_token);

  void record(const StepMeasurement& step);

  // For a chunk whose first token is at `position`.
  int tokens_at(int position) const;

  // Whether the next step that streams wait for should hold no prefill.
  bool wants_decode_alone() const {
    return limit_ms_ > 0 && mixed_ >= (decode_work_ > 0 ? kAlone : kFirstAlone);
  }

  // Milliseconds of a step without prefill, and of a prefill token at position 0; 0: not measured.
  double decode_ms() const { return decode_ms_; }
  double token_ms() const { return token_ms_; }

 private:
  void record_decode_alone(double ms);

  double limit_ms_;
  int max_tokens_;
  double context_of_token_;
  double decode_ms_ = 0;
  double token_ms_ = 0;
  // What the decode part takes, in the time of prefill tokens at position 0, so that it follows the
  // machine's speed as they do; 0: not known within this prompt.
  double decode_work_ = 0;
  double aim_ = kAim;
  int largest_ = 0;  // prefill tokens of a measured step
  int mixed_ = 0;    // steps with both since one of decode alone
  int alone_ = 0;    // steps of decode alone since one with both
};

// The context length at which attention costs a token about as much as its matrix products do, by
// counting multiplications; attention's run at half the rate.
double context_of_equal_cost(const ModelSpec& spec);

}  // namespace moeopt
