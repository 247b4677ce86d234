#!/usr/bin/env bash
# Makes an LLVM 23 from PyPI stand where the build script of burn's CUDA backend looks for one, so
# that it downloads none: `source benches/gpu/llvm.sh FOLDER`. Then `cargo build --features cuda`
# works.
#
# The build script (tracel-llvm-bundler 23.1.0-4) returns at once where the file
# .tracel-llvm-installed lies in its folder. The same wheel is needed by every later build.
set -euo pipefail
folder=$(mkdir -p "${1:?name a folder for LLVM}" && cd "$1" && pwd)

if ! [ -x "$folder/python/bin/python" ]; then
    python3 -m venv "$folder/python"
    "$folder/python/bin/pip" install --quiet 'mlc-llvm-static[all]==23.1.1.post0' 'nvidia-cuda-nvcc-cu12==12.9.86'
fi
prefix=$("$folder/python/bin/python" -m mlc_llvm_static.config --prefix)
export XDG_DATA_HOME="$folder/data"
mkdir -p "$XDG_DATA_HOME/tracel"
ln -sfn "$prefix" "$XDG_DATA_HOME/tracel/tracel-llvm-23.1.0-4"
# A newer file would make cargo build the crates again that depend on it.
[ -e "$prefix/.tracel-llvm-installed" ] || touch "$prefix/.tracel-llvm-installed"

# A toolkit as small as it gets: libdevice.10.bc, which every kernel with an exponential needs, and
# ptxas.
nvcc=$("$folder/python/bin/python" -c 'import nvidia.cuda_nvcc as package; print(list(package.__path__)[0])')
export CUDA_PATH="$nvcc"
# A driver of CUDA 12.8 or newer is enough at run time.
export CUDARC_CUDA_VERSION=12080
# The build calls llvm-config, which is written in Python.
export PATH="$folder/python/bin:$PATH"
