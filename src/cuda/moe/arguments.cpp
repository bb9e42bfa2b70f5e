#include "cuda/moe/arguments.h"

#include <string>

#include "cuda/moe/describe.h"
#include "cuda/moe/sized_struct.h"

namespace moeopt::cuda::moe {
namespace {

constexpr unsigned kAlignment = 16;
constexpr unsigned kPackedAlignment = 128;

void check_aligned(const char* name, const void* pointer, unsigned alignment_bytes) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment_bytes != 0) {
    refuse_argument(std::string(name) + " is not aligned to " + std::to_string(alignment_bytes) +
                    " bytes");
  }
}

// A pointer that must be there or must not be there.
void check_given(const char* name, const void* pointer, bool wanted, const char* why,
                 unsigned alignment_bytes = kAlignment) {
  if (wanted && pointer == nullptr) refuse_argument(std::string(name) + " is null, but " + why);
  if (!wanted && pointer != nullptr) refuse_argument(std::string(name) + " is set, but " + why);
  check_aligned(name, pointer, alignment_bytes);
}

// Elements between rows: 0 means dense. Rows start on 16 bytes, so that they are read 16 at a time.
std::int64_t check_stride(const char* name, std::int64_t stride, std::int64_t columns,
                          int element_bytes) {
  if (stride == 0) return columns;
  const int multiple = static_cast<int>(kAlignment) / element_bytes;
  constexpr std::int64_t kMost = std::int64_t{1} << 40;  // its bytes times rows fit 64 bits
  if (stride < columns || stride % multiple != 0 || stride > kMost) {
    refuse_argument(std::string(name) + " is " + std::to_string(stride) +
                    "; it must be 0 or a multiple of " + std::to_string(multiple) +
                    " that is not below the row's " + std::to_string(columns) + " elements");
  }
  return stride;
}

void check_route(const Shape& shape, const moeopt_moe_args& args, bool has_rows) {
  const bool ids_given = args.ids != nullptr || args.weights != nullptr;
  if (args.router != nullptr && ids_given) {
    refuse_argument("router and ids are both set; give one of them");
  }
  if (args.router != nullptr) {
    check_aligned("router", args.router, kAlignment);
    check_aligned("correction_bias", args.correction_bias, kAlignment);
  } else if (ids_given || has_rows) {
    if (!ids_given) refuse_argument("router and ids are both null; give one of them");
    check_given("ids", args.ids, true, "weights are set");
    check_given("weights", args.weights, true, "ids are set");
    check_given("correction_bias", args.correction_bias, false, "ids are given");
  }
  check_aligned("expert_map", args.expert_map, kAlignment);
  if (args.expert_map == nullptr && shape.slots < shape.experts) {
    refuse_argument("expert_map is null, but the layer has " + std::to_string(shape.slots) +
                    " slots for " + std::to_string(shape.experts) + " experts");
  }
}

void check_weights(const Shape& shape, moeopt_moe_args& args) {
  check_pointer("experts", args.experts, kPackedAlignment);
  const std::uint64_t expert_bytes = expert_layout(shape).bytes();
  if (args.expert_stride == 0) args.expert_stride = expert_bytes;
  if (args.expert_stride < expert_bytes || args.expert_stride % kPackedAlignment != 0) {
    refuse_argument("expert_stride is " + std::to_string(args.expert_stride) +
                    "; it must be 0 or a multiple of 128 that is not below expert_bytes (" +
                    std::to_string(expert_bytes) + ")");
  }
  const bool has_shared = shape.shared();
  check_given("shared", args.shared, has_shared,
              has_shared ? "the layer has a shared expert" : "the layer has no shared expert",
              kPackedAlignment);
  check_given("shared_gate", args.shared_gate, shape.shared_gate,
              shape.shared_gate ? "the layer has a shared gate" : "the layer has no shared gate");
}

void check_rows(const Shape& shape, moeopt_moe_args& args, int rows) {
  args.x_stride = check_stride("x_stride", args.x_stride, shape.hidden, 2);
  args.out_stride = check_stride("out_stride", args.out_stride, shape.hidden, 2);
  check_aligned("x", args.x, kAlignment);
  check_aligned("out", args.out, kAlignment);
  check_aligned("out_ids", args.out_ids, kAlignment);
  check_aligned("out_weights", args.out_weights, kAlignment);
  check_aligned("out_counts", args.out_counts, kAlignment);
  if (rows == 0) return;  // an empty tensor has no address
  // A gathering lane counts 16 bytes in 32 bits (image_loader.cuh).
  constexpr std::int64_t kMostBytes = std::int64_t{64} << 30;
  if ((std::int64_t{rows} - 1) * args.x_stride * 2 >= kMostBytes) {
    refuse_argument("x_stride is " + std::to_string(args.x_stride) + "; the " +
                    std::to_string(rows) + " rows of x would span 64 GiB or more");
  }
  check_pointer("x", args.x, kAlignment);
  check_pointer("out", args.out, kAlignment);
  if (rows_overlap(args.x, args.x_stride, args.out, args.out_stride, rows, shape.hidden)) {
    refuse_argument("out overlaps x");
  }
}

}  // namespace

void check_pointer(const char* name, const void* pointer, unsigned alignment_bytes) {
  if (pointer == nullptr) refuse_argument(std::string(name) + " is null");
  check_aligned(name, pointer, alignment_bytes);
}

moeopt_expert_source check_source(const ExpertLayout& layout, const moeopt_expert_source* given) {
  moeopt_expert_source source = read_struct(given, kFirstSourceBytes, "moeopt_expert_source");
  if (source.source < MOEOPT_SOURCE_BF16 || source.source > MOEOPT_SOURCE_BF16_TO_FP8) {
    refuse_argument("source is " + std::to_string(source.source) +
                    "; it must be MOEOPT_SOURCE_BF16, _FP8 or _BF16_TO_FP8");
  }
  const bool fp8_layer = layout.element_bytes == 1;
  if (fp8_layer == (source.source == MOEOPT_SOURCE_BF16)) {
    refuse_argument(fp8_layer
                        ? "source is MOEOPT_SOURCE_BF16, but the layer is fp8 (_FP8, _BF16_TO_FP8)"
                        : "source is not MOEOPT_SOURCE_BF16, but the layer is bf16");
  }
  check_pointer("gate", source.gate, kAlignment);
  check_pointer("up", source.up, kAlignment);
  check_pointer("down", source.down, kAlignment);
  const bool fp8 = source.source == MOEOPT_SOURCE_FP8;
  const int element_bytes = fp8 ? 1 : 2;
  source.gate_stride =
      check_stride("gate_stride", source.gate_stride, layout.hidden, element_bytes);
  source.up_stride = check_stride("up_stride", source.up_stride, layout.hidden, element_bytes);
  source.down_stride =
      check_stride("down_stride", source.down_stride, layout.intermediate, element_bytes);
  const char* why = fp8 ? "source is MOEOPT_SOURCE_FP8" : "source is not MOEOPT_SOURCE_FP8";
  check_given("gate_scale", source.gate_scale, fp8, why, alignof(float));
  check_given("up_scale", source.up_scale, fp8, why, alignof(float));
  check_given("down_scale", source.down_scale, fp8, why, alignof(float));
  return source;
}

moeopt_moe_args check_args(const Shape& shape, const moeopt_moe_args* given) {
  moeopt_moe_args args = read_struct(given, kFirstArgsBytes, "moeopt_moe_args");
  int rows = shape.max_tokens;  // that may be touched
  if (args.tokens_device == nullptr) {
    if (args.tokens < 0 || args.tokens > shape.max_tokens) {
      refuse_argument("tokens is " + std::to_string(args.tokens) +
                      "; it must be 0 .. max_tokens (" + std::to_string(shape.max_tokens) + ")");
    }
    rows = args.tokens;
  }
  check_aligned("tokens_device", args.tokens_device, kAlignment);
  check_rows(shape, args, rows);
  check_weights(shape, args);
  check_route(shape, args, rows > 0);
  check_pointer("workspace", args.workspace, kPackedAlignment);
  check_aligned("control", args.control, kPackedAlignment);
  if (args.control == args.workspace) {
    refuse_argument("control is the workspace; null means the workspace's own");
  }
  check_given("peers", args.peers, false, "world is 0 or 1");
  return args;
}

bool rows_overlap(const void* a, std::int64_t a_stride, const void* b, std::int64_t b_stride,
                  std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kElementBytes = 2;
  const auto a_start = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(a));
  const auto b_start = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(b));
  const std::int64_t width = columns * kElementBytes;
  const std::int64_t a_end = a_start + (rows - 1) * a_stride * kElementBytes + width;
  const std::int64_t b_end = b_start + (rows - 1) * b_stride * kElementBytes + width;
  if (a_end <= b_start || b_end <= a_start) return false;
  if (a_stride != b_stride) return true;  // some pair of rows may meet: refused without a search
  // Columns of one wider matrix: apart when neither row reaches into the other's, as in [x | out].
  const std::int64_t pitch = a_stride * kElementBytes;
  const std::int64_t offset = ((b_start - a_start) % pitch + pitch) % pitch;
  return offset < width || offset + width > pitch;
}

}  // namespace moeopt::cuda::moe
