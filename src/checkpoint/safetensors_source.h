// A folder's tensors: model.safetensors, or model.safetensors.index.json with its shards.
// Invariant: opening reads headers alone; a shard is mapped when one of its tensors is first
// viewed, and never copied (but for tensors that their file stores unaligned to their element
// type).
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/tensor_source.h"

namespace moeopt {

// Looks for the files in the order that Transformers does: the single file wins over the index.
// Error(kNotFound) when there are no weights, Error(kUnsupported) when there are only ones in a
// format that is not read (GGUF, pickles), Error(kInvalidData) naming file and tensor, Error(kIo).
std::unique_ptr<TensorSource> open_safetensors(const std::filesystem::path& folder);

}  // namespace moeopt
