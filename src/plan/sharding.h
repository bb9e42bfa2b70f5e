// Sharding: how a model is spread over the GPUs of one host. Attention by heads, routed experts
// whole (expert parallel), dense and shared MLPs by their inner width, embedding and head by rows
// of the vocabulary; norms and routers everywhere.
// Invariant: every rank gets the same number of bytes (rows of the vocabulary are padded up), so
// one rank's figures are everyone's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model_spec.h"

namespace moeopt {

// Why `ranks` do not divide the model; nullopt when they do. 1 always does.
std::optional<std::string> against_ranks(const ModelSpec& spec, int ranks);

// Ascending counts from 1 to `most` that divide the model.
std::vector<int> working_rank_counts(const ModelSpec& spec, int most);

// What one rank holds of a weight. A routed expert that lies on another rank has no elements here.
struct WeightShard {
  Shape shape;            // of the part; rank 0's for padded rows
  std::string transform;  // "as stored", "rows: 1 of 8 parts", ...
};
// `ranks` divide the model. For a routed expert this is the whole of it: experts_per_rank counts
// how many a rank has.
WeightShard shard_of(const ModelSpec& spec, const WeightSpec& weight, int ranks);

// Heads of K and V that one rank keeps; at least one.
int kv_heads_per_rank(const AttentionSpec& attention, int ranks);

}  // namespace moeopt
