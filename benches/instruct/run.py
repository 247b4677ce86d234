"""Prints the CPU-seconds and the peak memory of the same work done by lynxdata and its peers.

python3 run.py --lynxdata target/debug/lynxdata [--python PYTHON] [--questions 230000] [--only NAME …]

The work: join the questions and annotations of a generated VQA v2.0, take the answer on which most
of ten agree, word each question, and write JSON lines and LLaVA's JSON. Every peer runs in a process
of its own, in turn; CPU-seconds are those of the process and its children, user and system.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
RECIPE = """\
name = "bench"
output = "{out}/run"
[instruct]
require_images = false
formats = ["llava"]
[[instruct.tasks]]
name = "vqav2"
root = "{folder}"
images = "{out}/pictures"
split = "train"
"""


def measured(command):
    """Runs a command and returns wall seconds, CPU-seconds and the peak memory in MB."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            raise SystemExit(f"{command} ended with status {status}: {said.read().decode()}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lynxdata", required=True, help="path of the binary")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has datasets and duckdb")
    parser.add_argument("--questions", type=int, default=230_000)
    parser.add_argument("--votes", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=["lynxdata", "plain", "hf", "duck"])
    parser.add_argument("--folder", help="where the generated files are kept; a temporary folder if left out")
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(own.folder or temporary) / f"vqa-{own.questions}-{own.votes}"
        if not folder.is_dir():
            generate = [sys.executable, HERE / "generate.py", folder, str(own.questions), "--votes", str(own.votes)]
            subprocess.run(generate, check=True)
        megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        print(f"{own.questions} questions, {megabytes:.0f} MB", flush=True)
        for name in own.only:
            out = pathlib.Path(temporary) / name
            (out / "pictures").mkdir(parents=True)
            command = [own.python, HERE / f"{name}.py", folder, out]
            if name == "lynxdata":
                (out / "recipe.toml").write_text(RECIPE.format(out=out, folder=folder))
                command = [own.lynxdata, "instruct", out / "recipe.toml"]
            wall, cpu, memory = measured([str(word) for word in command])
            print(json.dumps({"name": name, "cpu_s": round(cpu, 2), "wall_s": round(wall, 2), "peak_mb": round(memory)}), flush=True)


main()
