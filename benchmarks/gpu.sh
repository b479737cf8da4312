#!/usr/bin/env bash
# What only a GPU can show, in ten minutes: equal to the CPU first, then the tables. From the root of the repository,
# in an environment with the extra dev:
#
#     benchmarks/gpu.sh [PYTHON] > gpu.txt
set -euo pipefail
python="${1:-python}"

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available() and "gpu.sh: torch finds no CUDA device here.")'

run() {
  echo
  echo "== $*"
  timeout 130 "$python" -m "$@" || echo "== failed or out of time: $*"
}

echo "== correctness"
timeout 180 "$python" -m pytest -q -p no:cacheprovider tests/gpu/test_cuda.py tests/metrics/test_reid.py \
  tests/retrieval -k "cuda or gpu"

run benchmarks.bench_towers step
run benchmarks.bench_evaluation --large --device cuda --no-memory
run benchmarks.bench_losses --device cuda --batches 512 4096 --repeats 20
run benchmarks.bench_search --rows 1000000 --device cuda --repeats 3 --no-memory
