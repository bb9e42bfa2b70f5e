#!/usr/bin/env bash
# The GPU suite's small shapes under compute-sanitizer: memcheck, racecheck, initcheck.
#   tools/sanitize_gpu.sh TEST_GPU_MOE [SEED]
# Needs a Hopper GPU and the CUDA toolkit's compute-sanitizer. Exits 1 when a tool finds something or a
# case fails. What they do not see: racecheck knows nothing of bulk copies and wgmma (the async proxy),
# and initcheck takes the suite's poison for initialised memory.
set -euo pipefail

suite=$(realpath "${1:?usage: sanitize_gpu.sh TEST_GPU_MOE [SEED]}")
seed=${2:-1}
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
[ -x "$sanitizer" ] || { echo "compute-sanitizer not found: it is part of the CUDA toolkit" >&2; exit 2; }

failed=0
for tool in memcheck racecheck initcheck; do
  echo "== $tool"
  if ! "$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20 \
    "$suite" --filter tiny --memory 1 --seed "$seed" --limit 600 | tail -n 25; then
    failed=1
    echo "FAILED: $tool"
  fi
done
exit "$failed"
