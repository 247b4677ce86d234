"""Prints user CPU seconds of a training step, ours beside PyTorch's, measured in turn.

python3 run.py --lynx-ref lynx_ref.py --python torch/bin/python --ours NAME=step_time [NAME=step_time …]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

PEER = pathlib.Path(__file__).parent / "peer.py"
STEPS = {"tiny": 20, "middle": 2}


class Steps:
    """A process that takes some training steps whenever it is asked."""

    def __init__(self, name, command, threads):
        environment = {
            **os.environ,
            "RAYON_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            # Else threads that wait for work are counted as if they worked.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self.process.wait()}")
        return line

    def take(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(json.loads(self.read())["user_seconds"])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lynx-ref", required=True, help="path of lynx_ref.py")
    parser.add_argument("--python", required=True, help="an interpreter that has PyTorch")
    parser.add_argument("--ours", required=True, nargs="+", help="NAME=path of the example step_time, for each profile")
    parser.add_argument("--shapes", nargs="+", default=["tiny", "middle"])
    parser.add_argument("--modes", nargs="+", default=["full", "frozen"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=10, help="each round takes 20 steps of tiny, 2 of middle")
    parser.add_argument("--json", help="file for every single number")
    arguments = parser.parse_args()

    print("| shape | mode | threads | what | min | median | min / PyTorch's | median / PyTorch's |\n|---|---|---|---|---|---|---|---|")
    record = []
    for shape in arguments.shapes:
        for mode in arguments.modes:
            for threads in arguments.threads:
                for row in compare(arguments, shape, mode, threads):
                    record.append(row)
                    print(row_text(row), flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(record, indent=1))


def compare(arguments, shape, mode, threads):
    """Measures one case with all programs, in turn."""
    case = [shape, mode, STEPS[shape]]
    programs = [Steps("PyTorch", [arguments.python, PEER, arguments.lynx_ref, *case, threads], threads)]
    for ours in arguments.ours:
        name, _, path = ours.rpartition("=")
        programs.append(Steps(name, [path, *case], threads))
    for _ in range(arguments.rounds):
        for program in programs:
            program.take()
    peer = programs[0].seconds
    for program in programs:
        program.end()
        least, median = min(program.seconds), statistics.median(program.seconds)
        yield {
            "shape": shape, "mode": mode, "threads": threads, "what": program.name,
            "min": least, "median": median, "min_ratio": least / min(peer), "median_ratio": median / statistics.median(peer),
            "seconds": program.seconds,
        }  # fmt: skip


def row_text(row):
    times = f"{row['min']:.4f} | {row['median']:.4f} | {row['min_ratio']:.2f} | {row['median_ratio']:.2f}"
    return f"| {row['shape']} | {row['mode']} | {row['threads']} | {row['what']} | {times} |"


if __name__ == "__main__":
    main()
