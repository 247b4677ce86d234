"""Measures what a release build costs, and what a cheaper one loses: see README.md beside it."""

import argparse
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROFILES = {"uniform": ["--config", str(HERE / "uniform.toml"), "--profile", "uniform"], "release": ["--release"]}


def cpu_seconds(command, **settings):
    """Runs a command and returns the CPU-seconds of it and of its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([str(word) for word in command], **settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {result.returncode}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def build(profile, target):
    """Builds from nothing and returns the CPU-seconds and the binary. A build that was stopped goes on: then the seconds are of the rest."""
    command = ["cargo", "build", "--locked", "--package", "lynxdata", *PROFILES[profile]]
    target.mkdir(parents=True, exist_ok=True)
    settings = {
        "CARGO_TARGET_DIR": str(target),
        "CARGO_INCREMENTAL": "0",
        "RUSTC_WRAPPER": str(HERE / "rustc_seconds.py"),
        "RUSTC_SECONDS": str(target / "rustc_seconds.tsv"),
    }
    seconds = cpu_seconds(command, cwd=ROOT, env={**os.environ, **settings})
    return seconds, target / profile / "lynxdata"


def dearest(target, most=30):
    """Prints the crates whose compilation takes the most CPU-seconds. Build scripts, which compile C, are not among them."""
    lines = (line.split("\t") for line in (target / "rustc_seconds.tsv").read_text().splitlines())
    crates = sorted(((float(seconds), crate) for crate, seconds in lines), reverse=True)
    print(f"\n| crate in {target.name} | CPU-seconds |\n|---|---|")
    for seconds, crate in crates[:most]:
        print(f"| {crate} | {seconds:.0f} |")
    print(f"| {len(crates[most:])} others | {sum(seconds for seconds, _ in crates[most:]):.0f} |")


def select(binary, pool):
    """Selects among the pairs of a generated pool, anew in every call; returns the CPU-seconds."""
    shutil.rmtree(pool / "run/selection", ignore_errors=True)
    for stage in ("dedup", "select"):
        seconds = cpu_seconds([binary, stage, "recipe.toml"], cwd=pool, stderr=subprocess.DEVNULL)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--target", type=Path, required=True, help="folder for the builds, one for each profile")
    parser.add_argument("--pool", type=Path, help="a folder that `generated_pool` wrote, with a million pairs")
    parser.add_argument("--rounds", type=int, default=3, help="of `select`, in turns (default: 3)")
    chosen = parser.parse_args()
    binaries = {}
    print("| profile | CPU-seconds of this build | binary, MB |\n|---|---|---|")
    for profile in chosen.profiles:
        seconds, binaries[profile] = build(profile, chosen.target.resolve() / profile)
        size = binaries[profile].stat().st_size / 1e6
        print(f"| {profile} | {seconds:.0f} | {size:.0f} |", flush=True)
    for profile in chosen.profiles:
        dearest(chosen.target.resolve() / profile)
    if chosen.pool:
        print("\n| profile | `select`, CPU-seconds by round |\n|---|---|")
        rounds = {profile: [] for profile in binaries}
        for _ in range(chosen.rounds):
            for profile, binary in binaries.items():
                rounds[profile].append(select(binary, chosen.pool))
        for profile, seconds in rounds.items():
            print(f"| {profile} | {', '.join(f'{second:.1f}' for second in seconds)} |")


if __name__ == "__main__":
    main()
