#!/usr/bin/env bash
# On a machine with a GPU, in the unpacked package: run.sh OUT [DEVICE…] writes to OUT what
# docs/devices.md has tables for, in about five minutes for each device. With LYNX_REF=lynx_ref.py
# in the environment, PyTorch takes the same steps on the first GPU, with the interpreter $PYTHON
# (python3).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${1:?name a folder for the results}" && cd "$1" && pwd)
shift
export CUDA_PATH="$here/cuda" LYNXDATA_NO_PROGRESS=1
lynxdata="$here/lynxdata"
SHAPES=(tiny:32 tiny:1024 middle:16 middle:256) # of benches/model, with the examples of a batch

# Runs a command for at most LIMIT seconds, with its output also in OUT/NAME: record NAME LIMIT
# COMMAND…
record() {
    local name=$1 limit=$2
    shift 2
    echo "== $SECONDS s: $name"
    timeout "$limit" "$@" 2>&1 | tee "$out/$name"
    local code=${PIPESTATUS[0]}
    [ "$code" -eq 0 ] || echo "$name ended with code $code"
    return "$code"
}

# Takes steps of all shapes in 32 and 16 bits, and stops at the first failure: steps NAME DEVICE
# COMMAND… where COMMAND expects SHAPE MODE STEPS [THREADS] DEVICE BATCH PRECISION.
steps() {
    local name=$1 device=$2
    shift 2
    for precision in f32 bf16; do
        for shape in "${SHAPES[@]}"; do
            printf '\n\n\n' | record "step-$name-${shape/:/-}-$precision.txt" 60 \
                "$@" "${shape%:*}" full 10 $threads "$device" "${shape#*:}" "$precision" || return 1
        done
    done
}

devices=("$@")
[ ${#devices[@]} -gt 0 ] || devices=(cuda:0 vulkan:discrete:0)
record gpu.txt 20 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
record version.json 30 "$lynxdata" version --json
for device in cpu "${devices[@]}"; do
    record "doctor-${device//:/-}.json" 120 "$lynxdata" doctor --device "$device" --json
done
for device in "${devices[@]}"; do
    name=${device//:/-}
    threads='' steps "$name" "$device" "$here/step_time"
    # The same check twice: the verdict must be the same, the numbers need not be.
    for turn in 1 2; do
        record "check-$name-$turn.json" 120 "$lynxdata" --quiet check calibrate --cases wrong_captions_30 --draws 1 \
            --halves 0 --device "$device" --set check.members=1 --without-controls --json || break
    done
    cmp "$out/check-$name-1.json" "$out/check-$name-2.json" && echo "$device: equal to the bit"
done
[ -z "${LYNX_REF:-}" ] || threads=4 steps pytorch cuda:0 "${PYTHON:-python3}" "$here/peer.py" "$LYNX_REF"
