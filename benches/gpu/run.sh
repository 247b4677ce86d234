#!/usr/bin/env bash
# On a machine with a GPU, in the unpacked package: run.sh OUT [DEVICE…] writes to OUT what docs/devices.md
# has a table for. About five minutes.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${1:?name a folder for the results}" && cd "$1" && pwd)
shift
export CUDA_PATH="$here/cuda" LYNXDATA_NO_PROGRESS=1
lynxdata="$here/lynxdata"

"$lynxdata" version --json | tee "$out/version.json"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt"
"$lynxdata" doctor --json | tee "$out/doctor.json"
devices=("$@")
[ ${#devices[@]} -gt 0 ] || devices=(cuda:0 vulkan:discrete:0)

for device in "${devices[@]}"; do
    name=${device//:/-}
    "$lynxdata" doctor --device "$device" || continue
    # Seconds per step of 32, 256 and 1024 examples, in 32 and 16 bits; a device without 16 bits prints an error.
    for precision in f32 bf16 f16; do
        for batch in 32 256 1024; do
            yes '' | head -n 2 | "$here/step_time" tiny full 40 "$device" "$batch" "$precision" \
                | tee "$out/step-$name-$precision-$batch.txt"
        done
    done
    # The same check twice: the verdict must be the same, the numbers need not be.
    for turn in 1 2; do
        "$lynxdata" --quiet check calibrate --cases wrong_captions_30 --draws 1 --halves 0 --device "$device" \
            --set check.members=1 --without-controls --json | tee "$out/check-$name-$turn.json"
    done
    cmp "$out/check-$name-1.json" "$out/check-$name-2.json" && echo "$device: equal to the bit"
done
