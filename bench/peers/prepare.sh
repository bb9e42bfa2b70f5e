#!/bin/sh
# Packs the peers for a GPU host without network: vLLM's Python code, unmodified, and the machine code
# of its two operator libraries and of DeepGEMM that Hopper runs (thin_fatbin.py), 23 MB in all.
#   prepare.sh [--engine|--server] OUT_DIR [WHEEL_DIR]     # WHEEL_DIR: keeps the downloaded wheels (300 MB)
# --engine: also what vLLM's engine imports, and FlashAttention 3 for Hopper, 40 MB in all (bench/plugins).
# --server: and what its API server imports, 47 MB in all.
# On the host (Python 3.12, torch 2.11 for CUDA 13, triton 3.6, transformers 5.17, nvcc):
#   mkdir -p /tmp/site && tar -xJf OUT_DIR/peers.tar.xz -C /tmp/site
#   PYTHONPATH=/tmp/site python3 bench/peers/run.py --lib libmoeopt.so
set -eu
here=$(cd "$(dirname "$0")" && pwd)
requirements="-r $here/requirements.txt"
thinned="_C_stable_libtorch _moe_C_stable_libtorch"
case $1 in --engine | --server)
  requirements="$requirements -r $here/requirements-engine.txt"
  thinned="$thinned vllm_flash_attn/_vllm_fa3_C"
  [ "$1" = --engine ] || requirements="$requirements -r $here/requirements-server.txt"
  shift
  ;;
esac
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheels=$(mkdir -p "${2:-$work/wheels}" && cd "${2:-$work/wheels}" && pwd)

platforms=""
for n in $(seq 39 -1 5); do platforms="$platforms --platform manylinux_2_${n}_x86_64"; done
for n in 2014 2010 1; do platforms="$platforms --platform manylinux${n}_x86_64"; done
# shellcheck disable=SC2086
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  $platforms -d "$wheels" $requirements

mkdir "$work/site"
cd "$work/site"
for wheel in "$wheels"/*.whl; do
  case $wheel in
    */vllm-*) unzip -q "$wheel" -x 'vllm/vllm_flash_attn/_vllm_fa2_C*' 'vllm/third_party/fmha_sm100/*' vllm/vllm-rs ;;
    *) unzip -q -o "$wheel" ;;
  esac
done
for name in $thinned; do
  mkdir -p "$work/thin/$(dirname "$name")"
  python3 "$here/thin_fatbin.py" "vllm/$name.abi3.so" "$work/thin/$name.abi3.so" 90
done
find vllm -name '*.so' ! -path 'vllm/third_party/deep_gemm/_C.cpython-312-*' -delete
cp -r "$work"/thin/* vllm/
tar -c --sort=name --owner=0 --group=0 . | xz -T0 -6 > "$out/peers.tar.xz"
ls -l "$out/peers.tar.xz"
