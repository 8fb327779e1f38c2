#!/usr/bin/env bash
# Builds and tests kontrast on a machine that has a GPU and a Python with PyTorch (2.11 or newer), CMake, Ninja and a compiler,
# but no network and no Node. Made ready beforehand with scripts/gpu-pack.sh, whose .gpu folder must lie beside this tree's
# package.json.
#
#   OUT=<folder>                logs and benchmark results (default: gpu-out)
#   KONTRAST_TEST_DEVICE=<name> device of the tests (default: cuda)
#   GPU_TESTS=<text>            only tests whose titles have it, such as 'fused kernels'
#   GPU_SANITIZE=1              the tests of the fused kernels once more under compute-sanitizer, which finds wrong accesses to memory
#   GPU_BENCH='<case> …'        benchmark cases (default: those whose names begin with gpu-; empty for none)
#
# The last line is `N passed, N failed`; the exit status is 0 when nothing failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${OUT:-gpu-out}
mkdir -p "$out"
# The default folder keeps itself out of the repository.
if [ -z "${OUT:-}" ]; then echo '*' > "$out/.gitignore"; fi
out=$(cd "$out" && pwd)
export KONTRAST_TEST_DEVICE=${KONTRAST_TEST_DEVICE:-cuda}
failed=0
passed=0

# Runs a step with its output in a log as well as on the screen.
step() {
  local name=$1
  shift
  echo "== $name"
  local start=$SECONDS
  "$@" 2>&1 | tee "$out/$name.log"
  local status=${PIPESTATUS[0]}
  echo "== $name: exit status $status, $((SECONDS - start)) s"
  return "$status"
}

finish() {
  echo "$passed passed, $failed failed" | tee "$out/summary.txt"
  [ "$failed" -eq 0 ]
  exit
}

# Python unpacks, since it is there for sure and xz may not be.
unpack() {
  python3 - "$1" <<'PYTHON'
import lzma, os, shutil, sys, tarfile
target = sys.argv[1]
os.makedirs(target, exist_ok=True)
node = os.path.join(target, 'node')
with lzma.open('.gpu/node.xz') as packed, open(node, 'wb') as binary:
    shutil.copyfileobj(packed, binary, 1 << 20)
os.chmod(node, 0o755)
if not os.path.exists('node_modules'):
    with tarfile.open('.gpu/node_modules.tar.xz') as archive:
        archive.extractall('.')
PYTHON
}

describe_machine() {
  uname -srm
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo 'no GPU is seen'
  nvcc --version 2>/dev/null | tail -1
  cmake --version | head -1
  ninja --version 2>/dev/null | sed 's/^/ninja /'
  c++ --version 2>/dev/null | head -1
  python3 --version
  echo "Node $(node --version)"
}

if ! command -v node > /dev/null || [ ! -d node_modules ]; then
  if [ ! -f .gpu/node.xz ]; then
    echo 'gpu-check: there is no Node and no .gpu folder; run scripts/gpu-pack.sh where Node is, and bring .gpu along' >&2
    failed=1
    finish
  fi
  bin=$(mktemp -d)
  trap 'rm -rf "$bin"' EXIT
  step unpack unpack "$bin" || { failed=1; finish; }
  export PATH="$bin:$PATH"
fi

step machine describe_machine
if ! step build node scripts/setup.mjs typescript libtorch native; then
  failed=1
  finish
fi

counts=$out/tests.json
rm -f "$counts"
# The real data set is too large to be carried along.
chosen=(--fgrep 'the real data set' --invert)
if [ -n "${GPU_TESTS:-}" ]; then chosen=(--fgrep "$GPU_TESTS"); fi
step tests node node_modules/mocha/bin/mocha.js --reporter scripts/test-reporter.cjs --reporter-option "counts=$counts" \
  "${chosen[@]}" 'test/**/*.test.ts'
tests=$?
if [ -f "$counts" ]; then
  passed=$(node -p "JSON.parse(fs.readFileSync('$counts', 'utf8')).passed")
  failed=$(node -p "JSON.parse(fs.readFileSync('$counts', 'utf8')).failed")
fi
if [ "$tests" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi

if [ "${GPU_SANITIZE:-0}" = 1 ]; then
  step sanitize compute-sanitizer --tool memcheck --error-exitcode 1 --target-processes all \
    node node_modules/mocha/bin/mocha.js --timeout 500000 --fgrep 'by fused kernels' test/contrast/statistics.test.ts ||
    failed=$((failed + 1))
fi

if [ -z "${GPU_BENCH+set}" ]; then
  GPU_BENCH=$(find bench/cases -mindepth 1 -maxdepth 1 -name 'gpu-*' -printf '%f\n' 2>/dev/null | sort)
fi
for name in $GPU_BENCH; do
  step "bench-$name" node -r ts-node/register/transpile-only bench/run.ts "$name" --out "$out/bench-$name.json" ||
    failed=$((failed + 1))
done
finish
