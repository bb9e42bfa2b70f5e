#!/usr/bin/env bash
# The GPU suite's small shapes under compute-sanitizer: memcheck, racecheck, initcheck; and racecheck
# on the shapes with a long K, whose blocks go round all rings.
#   tools/sanitize_gpu.sh TEST_GPU_MOE RACECHECK_TEST_GPU_MOE [SEED]
# The second is the suite of a build with -DMOEOPT_RACECHECK=ON: there each lane arrives on an mbarrier
# for itself, since racecheck credits nobody else (shared_state.cuh, kArrivingLanes).
# Needs a Hopper GPU and the CUDA toolkit's compute-sanitizer. Exits 1 when a tool finds something or a
# case fails. What they do not see: racecheck knows nothing of bulk copies and wgmma (the async proxy),
# and initcheck takes the suite's poison for initialised memory.
set -euo pipefail

usage='usage: sanitize_gpu.sh TEST_GPU_MOE RACECHECK_TEST_GPU_MOE [SEED]'
suite=$(realpath "${1:?$usage}")
race_suite=$(realpath "${2:?$usage}")
seed=${3:-1}
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
[ -x "$sanitizer" ] || { echo "compute-sanitizer not found: it is part of the CUDA toolkit" >&2; exit 2; }

failed=0
# check TOOL SUITE GROUP [OPTION...]
check() {
  echo "== $1, $3"
  if ! "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 \
    "$2" --filter "$3" --seed "$seed" --limit 600 "${@:4}" | tail -n 25; then
    failed=1
    echo "FAILED: $1, $3"
  fi
}
check memcheck "$suite" tiny --memory 1
check racecheck "$race_suite" tiny --memory 1
check racecheck "$race_suite" limits/long --memory 4
check initcheck "$suite" tiny --memory 1
exit "$failed"
