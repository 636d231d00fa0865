#!/usr/bin/env bash
# Checks and measures training and conversion on a CUDA device: every precision and compile mode,
# both architectures, at full size. Needs the checkout and the packages, nothing else.
#
#   scripts/gpu_check.sh                    # at most an hour (--limit-s); writes docs/benchmarks/<device>.{json,md}
#   scripts/gpu_check.sh --batch 16         # where the device has no memory for batches of 32
#   scripts/gpu_check.sh --device cpu --out /tmp/check      # the same ways, small, without a GPU
#   scripts/gpu_check.sh --help
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python="$(command -v python3)" || { echo "no python3 here; run: make setup" >&2; exit 2; }
export PYTHONPATH="$root/src:$root/scripts${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$root/scripts/gpu_check.py" "$@"
