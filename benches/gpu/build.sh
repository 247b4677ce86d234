#!/usr/bin/env bash
# Builds the release binary with every backend for GPUs and packs it with what it needs on a machine
# that has nothing but NVIDIA's driver: benches/gpu/build.sh FOLDER writes
# FOLDER/lynxdata-gpu.tar.xz.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mkdir -p "${1:?name a folder for the package}" && cd "$1" && pwd)
target="${CARGO_TARGET_DIR:-target}"
# shellcheck source=llvm.sh
source benches/gpu/llvm.sh "$target/llvm"
# One command, so that both programs share every crate.
cargo build --release --package lynxdata --package lynxdata-burn-model --bin lynxdata --example step_time \
    --features lynxdata/vulkan,lynxdata/cuda
package="$out/lynxdata-gpu"
rm -rf "$package"
mkdir -p "$package/cuda/nvvm/libdevice"
cp "$target/release/lynxdata" "$target/release/examples/step_time" benches/gpu/run.sh benches/model/peer.py "$package/"
strip "$package/lynxdata" "$package/step_time"
cp "$CUDA_PATH/nvvm/libdevice/libdevice.10.bc" "$package/cuda/nvvm/libdevice/"
tar --create --xz --file "$out/lynxdata-gpu.tar.xz" --directory "$out" lynxdata-gpu
ls -l "$out/lynxdata-gpu.tar.xz"
