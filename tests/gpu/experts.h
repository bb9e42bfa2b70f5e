// A layer's weights: random matrices as a checkpoint holds them, and what the library packed from
// them. Invariant: what the reference reads never went through the library.
#pragma once

#include <memory>
#include <string>

#include "gpu/device.h"
#include "gpu/random.h"
#include "gpu/reference.h"
#include "moeopt.h"

namespace moeopt::gpu_test {

// A status of the library that should have been MOEOPT_OK.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
void require_ok(moeopt_status status, const char* call);

struct DestroyLayer {
  void operator()(moeopt_moe* layer) const { moeopt_moe_destroy(layer); }
};
using LayerHandle = std::unique_ptr<moeopt_moe, DestroyLayer>;
LayerHandle make_layer(const moeopt_moe_desc& desc);
moeopt_moe_sizes sizes_of(const moeopt_moe* layer);

struct ExpertsPlan {
  int hidden = 0;
  int intermediate = 0;
  int shared_intermediate = 0;
  int slots = 0;
  bool fp8 = false;
  moeopt_source source = MOEOPT_SOURCE_BF16;
  int row_padding = 0;     // elements between the rows of the source matrices, a multiple of 16
  int expert_padding = 0;  // bytes between packed experts, a multiple of 128
  bool moved = false;      // packed elsewhere, then copied into place
  std::uint64_t seed = 0;
};

class Experts {
 public:
  // Makes and packs; `layer` has the plan's shapes. Everything lies in the arena's current scope.
  Experts(Arena& arena, const ExpertsPlan& plan, const moeopt_moe* layer);

  const ExpertsPlan& plan() const { return plan_; }
  const ReferenceLayer& reference() const { return reference_; }
  const void* packed() const { return packed_; }
  std::uint64_t stride() const { return stride_; }
  const void* packed_shared() const { return packed_shared_; }

  // Overwrites a packed expert with NaN: nobody may read it.
  void poison(int slot);
  // Of all packed bytes.
  std::uint64_t hash() const;

 private:
  MatrixSet make_matrices(int count, int rows, int cols, std::uint64_t seed, MatrixSet& source);
  ExpertSet make_set(int count, int intermediate, std::uint64_t seed, ExpertSet& source);
  moeopt_expert_source source_of(const ExpertSet& source, int index) const;

  Arena& arena_;
  ExpertsPlan plan_;
  ReferenceLayer reference_;
  ExpertSet source_, shared_source_;
  unsigned char* packed_ = nullptr;
  unsigned char* packed_shared_ = nullptr;
  std::uint64_t expert_bytes_ = 0;
  std::uint64_t shared_bytes_ = 0;
  std::uint64_t stride_ = 0;
};

}  // namespace moeopt::gpu_test
