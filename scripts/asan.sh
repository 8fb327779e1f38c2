#!/bin/sh
# Builds the addon with AddressSanitizer, in a copy of the tree under build-asan/, and runs the tests of the native core there.
#
#   scripts/asan.sh [test file ...]
#
# Leaks are not looked for: LibTorch and Node keep much until they end. GCC or Clang, Linux.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
tree="$root/build-asan/tree"
mkdir -p "$tree/build/Release"
for name in src test scripts examples package.json tsconfig.json .mocharc.json CMakeLists.txt native docs README.md; do
  [ -e "$name" ] || continue
  rm -rf "${tree:?}/$name"
  cp -rp "$name" "$tree/$name"
done
ln -sfn "$root/node_modules" "$tree/node_modules"
ln -sfn "$root/dist" "$tree/dist"
libtorch=$(node -p "require('./dist/libtorch').locateLibTorch().root")
cmake -S "$tree" -B "$tree/build" -G Ninja -DLIBTORCH="$libtorch" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_FLAGS="-fsanitize=address -fno-omit-frame-pointer" >/dev/null
cmake --build "$tree/build"
cp build/Release/kontrast.json "$tree/build/Release/"
cd "$tree"
if [ $# -eq 0 ]; then
  set -- $(ls test/torch/*.test.ts | grep -v -e generated -e types)
fi
ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16 LD_PRELOAD=$(g++ -print-file-name=libasan.so) OMP_NUM_THREADS=1 \
  node node_modules/mocha/bin/mocha.js --timeout 600000 "$@"
