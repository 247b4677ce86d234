#!/usr/bin/env bash
# Builds the release binary with every backend for GPUs and packs it with what it needs on a machine that
# has nothing but NVIDIA's driver: benches/gpu/build.sh FOLDER writes FOLDER/lynxdata-gpu.tar.xz.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mkdir -p "${1:?name a folder for the package}" && cd "$1" && pwd)
target="${CARGO_TARGET_DIR:-target}"
# shellcheck source=llvm.sh
source benches/gpu/llvm.sh "$target/llvm"
cargo build --release --package lynxdata --features vulkan,cuda
cargo build --release --package lynxdata-burn-model --features vulkan,cuda --example step_time
package="$out/lynxdata-gpu"
rm -rf "$package"
mkdir -p "$package/cuda/nvvm/libdevice"
cp "$target/release/lynxdata" "$target/release/examples/step_time" benches/gpu/run.sh "$package/"
strip "$package/lynxdata" "$package/step_time"
cp "$CUDA_PATH/nvvm/libdevice/libdevice.10.bc" "$package/cuda/nvvm/libdevice/"
tar --create --xz --file "$out/lynxdata-gpu.tar.xz" --directory "$out" lynxdata-gpu
ls -l "$out/lynxdata-gpu.tar.xz"
