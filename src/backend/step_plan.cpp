#include "backend/step_plan.h"

#include <algorithm>
#include <new>

#include "base/check.h"

namespace moeopt {

struct StepPlan::Header {
  std::int32_t n_tokens, n_sequences, n_samples, n_copies, signal_kv;
};

namespace {

// Reserves room for `count` T at the end of a layout of `size` bytes; returns where it starts.
template <typename T>
std::size_t reserve(std::size_t& size, int count) {
  MOEOPT_CHECK(count >= 0);
  const std::size_t offset =
      (size + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
  size = offset + sizeof(T) * static_cast<std::size_t>(count);
  return offset;
}

}  // namespace

StepPlan::StepPlan(const StepCapacity& capacity) : capacity_(capacity) {
  std::size_t size = sizeof(Header);
  tokens_offset_ = reserve<TokenRef>(size, capacity.tokens);
  sequences_offset_ = reserve<StepSequence>(size, capacity.sequences);
  tables_offset_ = reserve<std::int32_t>(size, capacity.sequences * capacity.blocks_per_sequence);
  samples_offset_ = reserve<StepSample>(size, capacity.tokens);
  copies_offset_ = reserve<BlockCopy>(size, capacity.copies);
  storage_ = Buffer(size);
}

template <typename T>
T* StepPlan::at(std::size_t offset) {
  return reinterpret_cast<T*>(storage_.bytes().data() + offset);
}
template <typename T>
const T* StepPlan::at(std::size_t offset) const {
  return reinterpret_cast<const T*>(storage_.bytes().data() + offset);
}
StepPlan::Header& StepPlan::header() {
  return *at<Header>(0);
}
const StepPlan::Header& StepPlan::header() const {
  return *at<Header>(0);
}

void StepPlan::clear() {
  header() = {};
}

void StepPlan::assign(const StepPlan& other) {
  MOEOPT_CHECK(storage_.size_bytes() == other.storage_.size_bytes());
  std::ranges::copy(other.storage_.bytes(), storage_.bytes().begin());
}

int StepPlan::add_sequence(int slot, int first_position, std::span<const TokenRef> tokens,
                           std::span<const std::int32_t> block_table, int microbatch) {
  Header& head = header();
  const int n_tokens = static_cast<int>(tokens.size());
  MOEOPT_CHECK(slot >= 0);
  MOEOPT_CHECK(slot < capacity_.sequences);
  MOEOPT_CHECK(head.n_sequences < capacity_.sequences);
  MOEOPT_CHECK(n_tokens > 0);
  MOEOPT_CHECK(head.n_tokens + n_tokens <= capacity_.tokens);
  MOEOPT_CHECK(static_cast<int>(block_table.size()) <= capacity_.blocks_per_sequence);
  const int first_token = head.n_tokens;
  std::copy(tokens.begin(), tokens.end(), at<TokenRef>(tokens_offset_) + first_token);
  std::int32_t* table =
      at<std::int32_t>(tables_offset_) +
      static_cast<std::ptrdiff_t>(head.n_sequences) * capacity_.blocks_per_sequence;
  std::copy(block_table.begin(), block_table.end(), table);
  std::fill(table + block_table.size(), table + capacity_.blocks_per_sequence, -1);
  at<StepSequence>(sequences_offset_)[head.n_sequences] = {slot, first_token, n_tokens,
                                                           first_position, microbatch};
  head.n_sequences += 1;
  head.n_tokens += n_tokens;
  return first_token;
}

void StepPlan::add_sample(int token, int slot, std::int32_t flags) {
  Header& head = header();
  MOEOPT_CHECK(token >= 0);
  MOEOPT_CHECK(token < head.n_tokens);
  MOEOPT_CHECK(head.n_samples < capacity_.tokens);
  at<StepSample>(samples_offset_)[head.n_samples++] = {token, slot, flags};
}

void StepPlan::add_copy(int from, int to) {
  Header& head = header();
  MOEOPT_CHECK(head.n_copies < capacity_.copies);
  at<BlockCopy>(copies_offset_)[head.n_copies++] = {from, to};
}

void StepPlan::set_signal_kv(bool signal) {
  header().signal_kv = signal ? 1 : 0;
}
bool StepPlan::signal_kv() const {
  return header().signal_kv != 0;
}

std::span<const TokenRef> StepPlan::tokens() const {
  return {at<TokenRef>(tokens_offset_), static_cast<std::size_t>(header().n_tokens)};
}
std::span<const StepSequence> StepPlan::sequences() const {
  return {at<StepSequence>(sequences_offset_), static_cast<std::size_t>(header().n_sequences)};
}
std::span<const std::int32_t> StepPlan::block_table(int sequence_index) const {
  MOEOPT_CHECK(sequence_index < header().n_sequences);
  const auto width = static_cast<std::size_t>(capacity_.blocks_per_sequence);
  return {at<std::int32_t>(tables_offset_) + static_cast<std::size_t>(sequence_index) * width,
          width};
}
std::span<const StepSample> StepPlan::samples() const {
  return {at<StepSample>(samples_offset_), static_cast<std::size_t>(header().n_samples)};
}
std::span<const BlockCopy> StepPlan::copies() const {
  return {at<BlockCopy>(copies_offset_), static_cast<std::size_t>(header().n_copies)};
}

}  // namespace moeopt
