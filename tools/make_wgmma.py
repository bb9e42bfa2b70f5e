#!/usr/bin/env python3
"""Writes src/cuda/moe/wgmma.cuh: one asm statement a width, since each names its registers.

usage: make_wgmma.py > src/cuda/moe/wgmma.cuh
"""

KINDS = (
    ("bf16", "k16.f32.bf16.bf16", ", 1, 1, 0, 0", (8, 16, 32, 64, 256)),
    ("e4m3", "k32.f32.e4m3.e4m3", ", 1, 1", (8, 16, 32, 64, 128)),
)

HEAD = """\
// wgmma of one warpgroup: d[64 x N] (+)= A[64 x K] B[N x K]^T, A and B in shared memory, both
// K-major in the 128-byte swizzle, K = 16 bf16 or 32 e4m3, sums in float32. Written by
// tools/make_wgmma.py. Fragment of thread t (warp v = t / 32 of the warpgroup, lane l): row 16 v +
// l / 4 (+ 8), column 8 i + 2 (l % 4) (+ 1); d[4 i + 2 * (row + 8) + (column + 1)].
#pragma once

#include <cstdint>

namespace moeopt::cuda::moe {

// accumulate 0: d starts from zero.
template <int kN>
__device__ void wgmma_bf16(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b, int accumulate);
template <int kN>
__device__ void wgmma_e4m3(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b, int accumulate);

// clang-format off
"""

TAIL = """\
// clang-format on

}  // namespace moeopt::cuda::moe
"""


def lines_of(items: list[str], per_line: int) -> list[str]:
    return [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]


def function(kind: str, types: str, tail: str, width: int) -> str:
    n = width // 2
    registers = lines_of([f"%{i}" for i in range(n)], 8)
    registers[0] = "{" + registers[0]
    registers[-1] += "}"
    quoted = "\n".join(f'      "{line}, "' for line in registers)
    outputs = ",\n        ".join(lines_of([f'"+f"(d[{i}])' for i in range(n)], 6))
    return f"""\
template <>
__device__ inline void wgmma_{kind}<{width}>(float (&d)[{n}], std::uint64_t a, std::uint64_t b, int accumulate) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{n + 2}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{width}{types} "
{quoted}
      "%{n}, %{n + 1}, p{tail};\\n}}\\n"
      : {outputs}
      : "l"(a), "l"(b), "r"(accumulate));
}}
"""


def main() -> None:
    print(HEAD, end="")
    for kind, types, tail, widths in KINDS:
        for width in widths:
            print(function(kind, types, tail, width), end="")
    print(TAIL, end="")


if __name__ == "__main__":
    main()
