// Hopper's instructions under names. Owned here: every asm statement but wgmma's (wgmma.cuh).
// Scopes and orders are in the names; addresses of shared memory are 32-bit.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(MOEOPT_MOE_WATCHDOG)
#include <cstdio>
#endif

namespace moeopt::cuda::moe {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// --- mbarriers ---------------------------------------------------------------------------------

using Mbarrier = std::uint64_t;

__device__ inline void mbarrier_init(Mbarrier& bar, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&bar)), "r"(arrivals)
               : "memory");
}
// Makes initialised mbarriers visible to the async proxy.
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void mbarrier_arrive(Mbarrier& bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&bar)) : "memory");
}
// The same, for `count` arrivals at once.
__device__ inline void mbarrier_arrive(Mbarrier& bar, std::uint32_t count) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&bar)),
               "r"(count)
               : "memory");
}
__device__ inline void mbarrier_arrive_expect(Mbarrier& bar, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&bar)),
               "r"(bytes)
               : "memory");
}
// Arrives once all of this thread's cp.async so far are complete; counts against the initial
// number.
__device__ inline void mbarrier_arrive_after_copies(Mbarrier& bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&bar))
               : "memory");
}
__device__ inline bool mbarrier_try_wait(Mbarrier& bar, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(shared_address(&bar)), "r"(parity)
      : "memory");
  return done != 0;
}

// The same without waiting at all.
__device__ inline bool mbarrier_test(Mbarrier& bar, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(shared_address(&bar)), "r"(parity)
      : "memory");
  return done != 0;
}

// --- copies ------------------------------------------------------------------------------------

// `bytes` (a multiple of 16) of global memory into shared memory by the copy engine; `bar` is told.
__device__ inline void bulk_copy(void* to, const void* from, std::uint32_t bytes, Mbarrier& bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&bar))
      : "memory");
}
// The same for bytes that are read once: they leave the cache to what comes back.
__device__ inline void bulk_copy_once(void* to, const void* from, std::uint32_t bytes,
                                      Mbarrier& bar, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], "
      "%2, [%3], %4;" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&bar)), "l"(policy)
      : "memory");
}
// `bytes` (a multiple of 16) of global memory into the second-level cache; nobody is told.
__device__ inline void bulk_prefetch(const void* from, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
__device__ inline std::uint64_t evict_first_policy() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// `bytes` (a multiple of 16) of shared memory to global memory by the copy engine; in this thread's
// open group.
__device__ inline void bulk_store(void* to, const void* from, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
__device__ inline void bulk_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Until at most kPending of this thread's groups have still to read their source.
template <int kPending>
__device__ inline void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
// Until all of this thread's groups are in global memory.
__device__ inline void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
__device__ inline void copy_16(std::uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most kPending of this thread's groups of copies have still to arrive.
template <int kPending>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ inline void copy_4(std::uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

// --- ordering across threads and proxies ---------------------------------------------------------

// Ordinary writes to shared memory before, wgmma and copy engine after.
__device__ inline void fence_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// The same for global memory: others' ordinary writes, acquired before, and the copy engine after.
__device__ inline void fence_async_global() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}
__device__ inline std::uint32_t load_acquire(const std::uint32_t* pointer) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(pointer) : "memory");
  return value;
}
__device__ inline void add_release(std::uint32_t* pointer, std::uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(pointer), "r"(value) : "memory");
}
// add_release of many counters: one fence, then these.
__device__ inline void fence_release() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}
__device__ inline void add_relaxed(std::uint32_t* pointer, std::uint32_t value) {
  asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(pointer), "r"(value) : "memory");
}
// A *word*: 32 bits of value, and above them the launch that wrote it. It is its own signal: who
// finds the launch's tag has the value, with no fence on either side.
using Word = std::uint64_t;

__device__ inline void store_word(Word* to, std::uint32_t value, std::uint32_t tag) {
  const Word word = static_cast<Word>(tag) << 32 | value;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
__device__ inline Word load_word(const Word* from) {
  Word word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
  return word;
}
// Two neighbours on 16 bytes, each whole, in any order.
__device__ inline void load_words(const Word* from, Word& first, Word& second) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(from)
               : "memory");
}
__device__ inline bool has_tag(Word word, std::uint32_t tag) {
  return static_cast<std::uint32_t>(word >> 32) == tag;
}
// Asks for a line to be in the cache; a hint.
__device__ inline void prefetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}
// Of memory that nothing in this launch writes.
__device__ inline uint4 load_16(const std::byte* from) {
  return __ldg(reinterpret_cast<const uint4*>(from));
}
__device__ inline uint2 load_8(const std::byte* from) {
  return __ldg(reinterpret_cast<const uint2*>(from));
}
// All `threads` (a multiple of 32) that name this barrier meet.
__device__ inline void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// --- matrix units ------------------------------------------------------------------------------

// A wgmma operand: rows of 128 bytes in the 128-byte swizzle, groups of 8 rows 1024 bytes apart;
// the tile starts on 1024 bytes. Adding (bytes >> 4) moves along K inside the 128 bytes.
__device__ inline std::uint64_t swizzled_operand(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = 1;
  constexpr std::uint64_t kGroupStride = 1024;
  return (kSwizzle128 << 62) | ((kGroupStride >> 4) << 32) | (std::uint64_t{1} << 16) |
         ((address & 0x3ffff) >> 4);
}
// The same from its low word.
__device__ inline std::uint64_t swizzled_operand_of(std::uint32_t low) {
  return (swizzled_operand(0) & ~std::uint64_t{0xffffffff}) | low;
}
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending of the committed groups still run.
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// After a wait: keeps the compiler from reading an accumulator before it.
template <int kCount>
__device__ inline void pin(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

// threadIdx.x, read anew: what follows from it is computed where it is used instead of being kept
// in registers.
__device__ inline int thread_again() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  __builtin_assume(thread >= 0 && thread < 1024);  // divisions are shifts
  return thread;
}

// d[16 x 8] += a[16 x 16] b[16 x 8], bf16, float32 sums.
__device__ inline void mma_bf16(float (&d)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Transposes an 8 x 8 matrix of 16-bit values held by a warp: lane l has row l / 4, columns 2 (l %
// 4) and the next, before and after.
__device__ inline std::uint32_t transpose_8x8(std::uint32_t two) {
  std::uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(two));
  return out;
}

// Four such matrices to shared memory: lane 8 i + r gives the address of row r of matrix i, 16
// bytes.
__device__ inline void store_matrices(std::uint32_t to, std::uint32_t a, std::uint32_t b,
                                      std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}
__device__ inline float load_shared_float(std::uint32_t from) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(from) : "memory");
  return v;
}
__device__ inline uint4 load_shared_16(std::uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(from)
               : "memory");
  return v;
}
__device__ inline void store_shared_2(std::uint32_t to, std::uint32_t two_bytes) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(static_cast<std::uint16_t>(two_bytes))
               : "memory");
}

// --- conversions -------------------------------------------------------------------------------

// Two floats to bf16, nearest even; `low` in the low half.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
// The larger of two bf16, twice; of a number and NaN the number.
__device__ inline std::uint32_t max_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t out;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
// Two floats to e4m3, nearest even, saturating; `low` in the low byte.
__device__ inline std::uint32_t pack_e4m3(float low, float high) {
  std::uint16_t out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(high), "f"(low));
  return out;
}
// 1 / value, its last bit in doubt; subnormals count as zero.
__device__ inline float approximate_reciprocal(float value) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(value));
  return out;
}
// 2^value, its last bits in doubt; subnormals count as zero.
__device__ inline float approximate_exp2(float value) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(value));
  return out;
}
__device__ inline float low_bf16(std::uint32_t two) {
  return __uint_as_float(two << 16);
}
__device__ inline float high_bf16(std::uint32_t two) {
  return __uint_as_float(two & 0xffff0000u);
}

template <int kRegisters>
__device__ inline void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- waiting -----------------------------------------------------------------------------------

// Of the device, in steps of up to a microsecond.
__device__ inline std::uint64_t wall_clock_ns() {
  std::uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

// Debug builds end a wait of seconds by a trap that says what was waited for (a device that other
// processes share may need more patience); the others have no trace of it.
class Watchdog {
 public:
#if defined(MOEOPT_MOE_WATCHDOG)
  __device__ explicit Watchdog(const char* what) : what_(what), start_(wall_clock_ns()) {}
  __device__ void look() const {
    if (wall_clock_ns() - start_ < kPatienceNs) return;
    printf("moeopt watchdog: block %d warp %d waits for %s\n", static_cast<int>(blockIdx.x),
           static_cast<int>(threadIdx.x) / 32, what_);
    __trap();
  }

 private:
  static constexpr std::uint64_t kPatienceNs = 2'000'000'000;

  const char* what_;
  std::uint64_t start_;
#else
  __device__ explicit Watchdog(const char* /*what*/) {}
  __device__ void look() const {}
#endif
};

__device__ inline void mbarrier_wait(Mbarrier& bar, std::uint32_t parity,
                                     const char* what = "an mbarrier") {
  const Watchdog watchdog(what);
  while (!mbarrier_try_wait(bar, parity)) watchdog.look();
}
// Until *pointer >= target; what its writers released is visible then.
__device__ inline void wait_for_count(const std::uint32_t* pointer, std::uint32_t target,
                                      const char* what) {
  const Watchdog watchdog(what);
  while (load_acquire(pointer) < target) watchdog.look();
}

__device__ inline std::uint32_t wait_for_word(const Word* from, std::uint32_t tag,
                                              const char* what) {
  const Watchdog watchdog(what);
  Word word = load_word(from);
  while (!has_tag(word, tag)) {
    watchdog.look();
    word = load_word(from);
  }
  return static_cast<std::uint32_t>(word);
}

}  // namespace moeopt::cuda::moe
