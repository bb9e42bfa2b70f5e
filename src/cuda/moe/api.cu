// The C ABI of include/moeopt.h: check, then enqueue.
// Invariant: no exception leaves, nothing is enqueued by a call that fails its checks, and forward
// does nothing to the stream but one kernel launch.
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <memory>
#include <new>
#include <string>

#include "cuda/moe/arguments.h"
#include "cuda/moe/capacity.h"
#include "cuda/moe/config.h"
#include "cuda/moe/describe.h"
#include "cuda/moe/fill_params.h"
#include "cuda/moe/last_error.h"
#include "cuda/moe/launch.h"
#include "cuda/moe/pack.h"
#include "cuda/moe/refusal.h"
#include "cuda/moe/sized_struct.h"
#include "cuda/moe/workspace.h"
#include "moeopt.h"

namespace {

namespace moe = moeopt::cuda::moe;

}  // namespace

struct moeopt_moe {
  moe::Shape shape;
  moe::Config config;
  moe::WorkspaceLayout workspace;
  std::string config_name;
};

namespace {

constexpr unsigned kPackedAlignment = 128;

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // ours to report, not the next call's
  throw moe::Refusal(MOEOPT_ERROR_CUDA, std::string(what) + ": " + cudaGetErrorString(error) +
                                            " (" + cudaGetErrorName(error) + ")");
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
  return value;
}

// Multiprocessors of the current device, which must be a Hopper GPU. Asked of CUDA once per device.
int multiprocessors() {
  static std::array<std::atomic<int>, 64> known{};
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  const bool cached = device >= 0 && device < static_cast<int>(known.size());
  if (cached) {
    if (const int count = known[device].load(std::memory_order_relaxed); count > 0) return count;
  }
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  if (major != 9 || minor != 0) {
    moe::refuse_unsupported("device " + std::to_string(device) + " has compute capability " +
                            std::to_string(major) + "." + std::to_string(minor) +
                            "; this library needs 9.0 (Hopper)");
  }
  const int count = attribute(cudaDevAttrMultiProcessorCount, device);
  if (cached) known[device].store(count, std::memory_order_relaxed);
  return count;
}

template <typename Body>
moeopt_status guarded(const Body& body) noexcept {
  try {
    body();
    return MOEOPT_OK;
  } catch (const moe::Refusal& refusal) {
    moe::set_last_error(refusal.what());
    return refusal.status();
  } catch (const std::bad_alloc&) {
    moe::set_last_error("out of host memory");
  } catch (const std::exception& error) {
    moe::set_last_error(error.what());
  } catch (...) {
    moe::set_last_error("an unknown exception");
  }
  return MOEOPT_ERROR_INTERNAL;
}

const moeopt_moe& checked(const moeopt_moe* layer) {
  if (layer == nullptr) moe::refuse_argument("layer is null");
  return *layer;
}

void pack_into(const moe::ExpertLayout& layout, const moeopt_expert_source* given, void* packed,
               void* stream) {
  const moeopt_expert_source source = moe::check_source(layout, given);
  moe::check_pointer("packed", packed, kPackedAlignment);
  multiprocessors();
  check_cuda(
      moe::pack(layout, source, static_cast<std::byte*>(packed), static_cast<cudaStream_t>(stream)),
      "packing an expert");
}

}  // namespace

const char* moeopt_last_error(void) {
  return moe::last_error();
}

const char* moeopt_version(void) {
  return MOEOPT_LIBRARY_VERSION;
}

moeopt_status moeopt_moe_create(const moeopt_moe_desc* desc, moeopt_moe** layer) {
  return guarded([&] {
    if (layer == nullptr) moe::refuse_argument("layer is null");
    *layer = nullptr;
    auto made = std::make_unique<moeopt_moe>();
    made->shape = moe::check_desc(desc);
    made->config = moe::choose_config(made->shape);
    made->workspace = moe::workspace_layout(made->shape, made->config);
    made->config_name = made->config.name();
    *layer = made.release();
  });
}

void moeopt_moe_destroy(moeopt_moe* layer) {
  delete layer;
}

moeopt_status moeopt_moe_get_sizes(const moeopt_moe* layer, moeopt_moe_sizes* sizes) {
  return guarded([&] {
    const moeopt_moe& l = checked(layer);
    moeopt_moe_sizes whole{};
    whole.expert_bytes = moe::expert_layout(l.shape).bytes();
    whole.shared_bytes = moe::shared_bytes(l.shape);
    whole.workspace_bytes = l.workspace.bytes;
    whole.control_bytes = l.workspace.control_bytes;
    moe::write_struct(whole, sizes, moe::kFirstSizesBytes, "moeopt_moe_sizes");
  });
}

moeopt_status moeopt_moe_tokens_within(const moeopt_moe_desc* desc, uint64_t bytes,
                                       int32_t* max_tokens) {
  return guarded([&] {
    if (max_tokens == nullptr) moe::refuse_argument("max_tokens is null");
    *max_tokens = 0;
    moe::Shape shape = moe::check_desc(desc);
    const int tokens = moe::tokens_within(shape, bytes);
    if (tokens == 0) {
      shape.max_tokens = 1;
      moe::refuse_unsupported(
          "a workspace of " + std::to_string(bytes) + " bytes; one token takes " +
          std::to_string(moe::workspace_layout(shape, moe::choose_config(shape)).bytes));
    }
    *max_tokens = tokens;
  });
}

const char* moeopt_moe_config(const moeopt_moe* layer) {
  return layer == nullptr ? "" : layer->config_name.c_str();
}

moeopt_status moeopt_moe_pack_expert(const moeopt_moe* layer, const moeopt_expert_source* source,
                                     void* packed, void* stream) {
  return guarded(
      [&] { pack_into(moe::expert_layout(checked(layer).shape), source, packed, stream); });
}

moeopt_status moeopt_moe_pack_shared(const moeopt_moe* layer, const moeopt_expert_source* source,
                                     void* packed, void* stream) {
  return guarded([&] {
    const moeopt_moe& l = checked(layer);
    if (!l.shape.shared()) moe::refuse_argument("the layer has no shared expert");
    pack_into(moe::shared_layout(l.shape), source, packed, stream);
  });
}

moeopt_status moeopt_moe_init_workspace(const moeopt_moe* layer, void* workspace, void* stream) {
  return guarded([&] {
    const moeopt_moe& l = checked(layer);
    moe::check_pointer("workspace", workspace, kPackedAlignment);
    multiprocessors();
    check_cuda(
        cudaMemsetAsync(workspace, 0, l.workspace.control_bytes, static_cast<cudaStream_t>(stream)),
        "clearing the workspace");
  });
}

moeopt_status moeopt_moe_forward(const moeopt_moe* layer, const moeopt_moe_args* args,
                                 void* stream) {
  return guarded([&] {
    const moeopt_moe& l = checked(layer);
    const moeopt_moe_args call = moe::check_args(l.shape, args);
    const int blocks = multiprocessors();
    check_cuda(moe::launch(l.config, moe::fill_params(l.shape, l.config, l.workspace, call), blocks,
                           static_cast<cudaStream_t>(stream)),
               "launching the layer");
  });
}
