/* moeopt: the fused Mixture-of-Experts layer (FlashDMoE) as a C library. Hopper GPUs (sm_90a).
 *
 * One forward call is one kernel launch: gate, top-k, dispatch, expert FFN (SwiGLU), shared expert
 * and weighted combination:
 *
 *   (e_s, w_s), s = 0 .. top_k - 1 = route(R x)          or given by the caller
 *   out = sum over s in slot order of w_s * D_e (silu(G_e x) * (U_e x))  [+ shared expert]
 *
 * Memory. The caller allocates everything on the device; the library allocates nothing on the
 * device, never synchronises and never touches the default stream. All device pointers must be
 * aligned to 16 bytes, packed weights and the workspace to 128.
 * Streams. Every call that takes a stream only enqueues work on it. A `stream` is a cudaStream_t
 * passed as void*. Calls on different streams may run at once when their workspaces differ; one
 * workspace serves one stream at a time. A forward call may be captured into a CUDA graph: it adds
 * exactly one kernel node.
 * Errors. Every function returns a status; moeopt_last_error() then describes it, per thread.
 * Nothing is enqueued when the status is not MOEOPT_OK. Bits. A token's output depends on that
 * token, the weights and (hidden, intermediate, dtype) alone: the same alone, in any batch, for any
 * max_tokens, in any run.
 * Structs start with their size: set struct_size = sizeof(the struct) and zero the rest, so that
 * fields added later keep their defaults.
 */
#ifndef MOEOPT_H
#define MOEOPT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOEOPT_API __attribute__((visibility("default")))
#else
#define MOEOPT_API
#endif

typedef enum moeopt_status {
  MOEOPT_OK = 0,
  MOEOPT_ERROR_ARGUMENT = 1,    /* a null or misaligned pointer, a wrong struct_size, a bad value */
  MOEOPT_ERROR_UNSUPPORTED = 2, /* a shape or device beyond the limits; the text names the limit */
  MOEOPT_ERROR_CUDA = 3,        /* a CUDA call failed; the text carries CUDA's message */
  MOEOPT_ERROR_INTERNAL = 4     /* out of host memory, or a fault of this library */
} moeopt_status;

/* What the last failing call on this thread said; "" when none failed. Valid until the next call on
 * the same thread. */
MOEOPT_API const char* moeopt_last_error(void);

/* "0.1.0". */
MOEOPT_API const char* moeopt_version(void);

typedef enum moeopt_dtype {
  MOEOPT_BF16 = 0, /* weights, x and h (the SwiGLU output) in bf16, sums in float32 */
  MOEOPT_FP8 = 1   /* weights e4m3 with one float32 scale per 128x128 block; x and h quantised to
                      e4m3 with one float32 scale per 128 elements of a row; sums in float32,
                      promoted every 128 */
} moeopt_dtype;

typedef enum moeopt_score { MOEOPT_SOFTMAX = 0, MOEOPT_SIGMOID = 1 } moeopt_score;

typedef enum moeopt_group_score {
  MOEOPT_GROUP_MAX = 0, /* a group counts as its best expert (DeepSeek-V2) */
  MOEOPT_GROUP_TOP2 = 1 /* as the sum of its best two (DeepSeek-V3) */
} moeopt_group_score;

/* Describes a layer. */
typedef struct moeopt_moe_desc {
  uint32_t struct_size;
  int32_t hidden;       /* H: multiple of 64 (bf16) or 128 (fp8), <= 16384 */
  int32_t intermediate; /* I of one routed expert: same multiples, <= 32768 */
  int32_t experts;      /* E, global ids 0 .. E-1, <= 512 */
  int32_t top_k;        /* k, 1 .. min(16, E) */
  int32_t slots;        /* packed experts in this process's memory; 0: E. <= 512 */
  int32_t max_tokens;   /* capacity of one forward call, 1 .. 65536 */
  int32_t dtype;        /* moeopt_dtype */
  /* Router: selected by score (+ correction bias) within the best groups, ties to the lower id;
   * weight = score [/ (sum of the chosen + epsilon)] * scale. Unused when ids are given. */
  int32_t score;        /* moeopt_score */
  int32_t groups;       /* 0 or 1: none; else E is split in this many equal runs, <= 32 */
  int32_t top_k_groups; /* of which this many may be chosen from */
  int32_t group_score;  /* moeopt_group_score */
  int32_t renormalise;  /* 0 or 1 */
  float renormalise_epsilon;
  float scale; /* times every weight; 0 means 1 */
  /* Shared expert, run for every token and added last. */
  int32_t shared_intermediate; /* 0: none; same multiples as intermediate, <= 32768 */
  int32_t shared_gate;         /* 1: its output times sigmoid(S x) */
  /* Expert parallelism; one GPU: rank 0 of world 0 or 1. */
  int32_t rank;
  int32_t world;
  /* For measurements: the tile of a task, 8 (where max_tokens is no more), 32, 64 or 128 tokens; 0:
   * the library's choice. Moves speed, never bits. */
  int32_t tile_tokens;
} moeopt_moe_desc;

typedef struct moeopt_moe moeopt_moe; /* host memory only; immutable, may be shared by threads */

/* Checks the description and chooses the kernel's configuration. Makes no CUDA call. */
MOEOPT_API moeopt_status moeopt_moe_create(const moeopt_moe_desc* desc, moeopt_moe** layer);
MOEOPT_API void moeopt_moe_destroy(moeopt_moe* layer); /* null is fine */

typedef struct moeopt_moe_sizes {
  uint32_t struct_size;
  uint64_t expert_bytes;    /* one packed routed expert; a multiple of 128 */
  uint64_t shared_bytes;    /* the packed shared expert; 0 when there is none */
  uint64_t workspace_bytes; /* one workspace */
  uint64_t control_bytes;   /* its first part, which lasts from launch to launch. The other part,
                               workspace_bytes - control_bytes, never shrinks as max_tokens grows */
} moeopt_moe_sizes;

MOEOPT_API moeopt_status moeopt_moe_get_sizes(const moeopt_moe* layer, moeopt_moe_sizes* sizes);

/* For callers that bound the workspace: the largest max_tokens, up to the description's, whose
 * workspace takes at most `bytes`; where that is not all, a multiple of 128 or, below, a power
 * of 2. A call with more tokens is then cut by the caller: a token's bits stay the same.
 * MOEOPT_ERROR_UNSUPPORTED when one token's workspace takes more. Makes no CUDA call. */
MOEOPT_API moeopt_status moeopt_moe_tokens_within(const moeopt_moe_desc* desc, uint64_t bytes,
                                                  int32_t* max_tokens);

/* How an expert's matrices are stored before packing. */
typedef enum moeopt_source {
  MOEOPT_SOURCE_BF16 = 0,       /* for a bf16 layer */
  MOEOPT_SOURCE_FP8 = 1,        /* e4m3 with weight_scale_inv, for an fp8 layer */
  MOEOPT_SOURCE_BF16_TO_FP8 = 2 /* bf16, quantised here per 128x128 block: scale = max|w| / 448 */
} moeopt_source;

/* One expert as Hugging Face stores it: gate and up [I, H], down [H, I], row-major, out x in.
 * Device pointers. */
typedef struct moeopt_expert_source {
  uint32_t struct_size;
  int32_t source; /* moeopt_source */
  const void* gate;
  const void* up;
  const void* down;
  int64_t gate_stride; /* elements from one row to the next; 0: dense (H, H, I) */
  int64_t up_stride;
  int64_t down_stride;
  const float* gate_scale; /* MOEOPT_SOURCE_FP8: [I/128, H/128] float32, dense */
  const float* up_scale;   /* [I/128, H/128] */
  const float* down_scale; /* [H/128, I/128] */
} moeopt_expert_source;

/* Packs one routed expert (or the shared one) into `packed`: expert_bytes (shared_bytes) of device
 * memory. A packed expert holds no addresses: it may be copied and moved. */
MOEOPT_API moeopt_status moeopt_moe_pack_expert(const moeopt_moe* layer,
                                                const moeopt_expert_source* source, void* packed,
                                                void* stream);
MOEOPT_API moeopt_status moeopt_moe_pack_shared(const moeopt_moe* layer,
                                                const moeopt_expert_source* source, void* packed,
                                                void* stream);

/* Makes a workspace ready: once before its first forward, and after a launch that failed. It is
 * ready for this layer alone, and for others of an equal description. Touches its first
 * control_bytes alone, so it also makes a moeopt_moe_args.control ready. */
MOEOPT_API moeopt_status moeopt_moe_init_workspace(const moeopt_moe* layer, void* workspace,
                                                   void* stream);

/* What the kernel itself counted since moeopt_moe_init_workspace; lives at the start of the
 * workspace (of moeopt_moe_args.control where that is given), on the device. */
typedef struct moeopt_moe_counters {
  uint64_t launches;   /* forward launches that ran */
  uint64_t tokens;     /* tokens over launches */
  uint64_t rows;       /* (token, expert) rows that expert tiles multiplied, shared not counted:
                          tokens * k when every expert is here */
  uint64_t nan_tokens; /* tokens that had a NaN among their logits or given weights, or with
                          softmax an infinite logit */
  uint64_t errors;     /* launches whose device token count was outside 0 .. max_tokens: they do
                          nothing */
} moeopt_moe_counters;

typedef struct moeopt_moe_args {
  uint32_t struct_size;
  int32_t tokens;               /* T, 0 .. max_tokens; ignored when tokens_device is set */
  const int32_t* tokens_device; /* T in device memory, read by the kernel; null: by value */
  const void* x;                /* [T, H] bf16 */
  int64_t x_stride;             /* elements between rows, a multiple of 8; 0: H; x spans < 64 GiB */
  void* out;                    /* [T, H] bf16; must not overlap x */
  int64_t out_stride;           /* elements between rows, a multiple of 8; 0: H */
  const void* experts;          /* slot s at experts + s * expert_stride */
  uint64_t expert_stride;       /* bytes, a multiple of 128; 0: expert_bytes */
  const void* shared;           /* packed shared expert, when the layer has one */
  /* Either the router ... */
  const void* router;           /* [E, H] bf16, dense */
  const float* correction_bias; /* [E] float32 or null */
  const void* shared_gate;      /* [H] bf16 when the layer has a shared gate (with given ids too) */
  /* ... or its decision: ids [T, k] int32 global (-1: no expert in this slot), weights [T, k]
   * float32, used as they are. */
  const int32_t* ids;
  const float* weights;
  /* Global id -> slot, -1: not here (contributes exactly zero). [E] int32; null: slot = id. */
  const int32_t* expert_map;
  /* Optional outputs, null when not wanted. */
  int32_t* out_ids;    /* [T, k] global, in slot order */
  float* out_weights;  /* [T, k] */
  int32_t* out_counts; /* [slots] rows per slot of this launch */
  void* workspace;     /* workspace_bytes, made ready by moeopt_moe_init_workspace */
  void* const* peers;  /* world > 1: base pointers of the peers' workspaces; else null */
  /* control_bytes made ready by moeopt_moe_init_workspace, aligned to 128; null: the workspace's
   * own. With it the workspace is scratch of workspace_bytes - control_bytes, which must not
   * overlap the control: its contents need not outlast the launch and it needs no making ready, so
   * that layers with a control of their own share one, each with its own counters. One control
   * serves one stream at a time. */
  void* control;
} moeopt_moe_args;

/* Enqueues the layer: exactly one kernel. */
MOEOPT_API moeopt_status moeopt_moe_forward(const moeopt_moe* layer, const moeopt_moe_args* args,
                                            void* stream);

/* The configuration that moeopt_moe_create chose, for benchmarks and logs: "bf16 m128 n32
 * local-lists". Lives as long as the layer. */
MOEOPT_API const char* moeopt_moe_config(const moeopt_moe* layer);

#ifdef __cplusplus
}
#endif
#endif /* MOEOPT_H */
