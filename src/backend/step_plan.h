// StepPlan: one forward step as a flat block of bytes: what to compute, on which blocks, what to
// sample. Written by the engine, read by a backend.
// Invariant: one allocation of a size fixed by StepCapacity, no pointers inside, so that it can be
// copied to a device or another process as it is; filling it never allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace moeopt {

struct StepCapacity {
  int sequences = 0;            // slots; a sequence keeps its slot from bind to release
  int tokens = 0;               // of one step, all sequences together
  int blocks_per_sequence = 0;  // ceil(max_model_len / block_tokens)
  int copies = 0;               // block copies a step may carry
};

// A literal id, or "what slot s sampled last", so that a step can be planned before its
// predecessor's ids are known on the host.
struct TokenRef {
  std::int32_t value;

  static TokenRef literal(std::int32_t id) { return {id}; }
  static TokenRef last_sample_of(int slot) { return {-1 - slot}; }
  bool is_literal() const { return value >= 0; }
  int slot() const { return -1 - value; }
};

// A run of consecutive tokens of one sequence. Decode: one token; prefill: a chunk.
struct StepSequence {
  std::int32_t slot;
  std::int32_t first_token;  // index into tokens()
  std::int32_t n_tokens;
  std::int32_t first_position;  // of the first token; all earlier positions are in the KV blocks
  std::int32_t microbatch;      // 0 or 1: two halves that a backend may overlap
};

enum SampleFlags : std::int32_t {
  kSampleToken = 1,  // draw the slot's next id from this row
  kWantLogits = 2,   // return the row's logits
};

// Logits are computed for these rows alone.
struct StepSample {
  std::int32_t token;  // index into tokens()
  std::int32_t slot;
  std::int32_t flags;
};

struct BlockCopy {
  std::int32_t from, to;  // all layers of a block; done before anything else of the step
};

class StepPlan {
 public:
  explicit StepPlan(const StepCapacity& capacity);

  const StepCapacity& capacity() const { return capacity_; }
  void clear();
  // Takes over what `other` says; both have the same capacity.
  void assign(const StepPlan& other);

  // Appends a sequence with its tokens and block table (physical block ids, enough of them to hold
  // first_position + tokens.size() positions). Returns the index of its first token.
  int add_sequence(int slot, int first_position, std::span<const TokenRef> tokens,
                   std::span<const std::int32_t> block_table, int microbatch = 0);
  void add_sample(int token, int slot, std::int32_t flags);
  void add_copy(int from, int to);
  // Ask the backend to publish when each layer's keys and values are in place
  // (Backend::kv_layers_done).
  void set_signal_kv(bool signal);

  bool signal_kv() const;
  std::span<const TokenRef> tokens() const;
  std::span<const StepSequence> sequences() const;
  std::span<const std::int32_t> block_table(int sequence_index) const;
  std::span<const StepSample> samples() const;
  std::span<const BlockCopy> copies() const;

  // The whole plan as bytes: header, then the arrays at offsets that depend on the capacity alone.
  std::span<const std::byte> bytes() const { return storage_.bytes(); }

 private:
  struct Header;
  template <typename T>
  T* at(std::size_t offset);
  template <typename T>
  const T* at(std::size_t offset) const;
  Header& header();
  const Header& header() const;

  StepCapacity capacity_;
  std::size_t tokens_offset_ = 0, sequences_offset_ = 0, tables_offset_ = 0, samples_offset_ = 0,
              copies_offset_ = 0;
  Buffer storage_;
};

}  // namespace moeopt
