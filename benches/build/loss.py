"""Counts the instructions of the main commands with binaries of several profiles: see README.md beside it.

Times of two binaries differ by several percent on a shared machine even if the binaries are equal.
Instructions under valgrind do not, so a small loss can be seen.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "download"))

from bench import LYNXDATA_PICTURES, Bench, add_arguments, lynxdata_command  # noqa: E402
from serve import Server  # noqa: E402

ROWS = 400
QUESTIONS = 20_000
FOLDER_RECIPE = """
output = "run"
[source]
path = "{images}"
[download]
resize = "shorter"
size = 256
"""
INSTRUCT_RECIPE = """
output = "run"
[instruct]
require_images = false
formats = ["llava"]
tasks = [{{ name = "vqav2", root = "{folder}", images = ".", split = "train" }}]
"""
# A check under valgrind takes longer than all other commands, also with so few steps.
FEW_STEPS = ["--set", "check.train.steps=10", "--set", "check.replicates=2"]


def instructions(binary, words, profile_file, **settings):
    """Runs a command under callgrind and returns the number of its instructions."""
    counted = ["valgrind", "--tool=callgrind", "--max-threads=2000", f"--callgrind-out-file={profile_file}", str(binary)]
    result = subprocess.run([*counted, *map(str, words)], capture_output=True, text=True, **settings)
    found = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode not in (0, 3) or not found:
        sys.exit(f"{binary} {' '.join(map(str, words))} ended with {result.returncode}: {result.stderr[-2000:]}")
    return int(found.group(1))


class Inputs:
    """What the commands read."""

    def __init__(self, bench, binary):
        self.photos = bench.pictures("photos", bench.chosen.pictures)
        self.server = Server(bench.work / "server", self.photos, bench.chosen.port)
        self.quickstart, self.questions = bench.work / "quickstart", bench.work / f"vqa-{QUESTIONS}"
        if not self.quickstart.is_dir():
            made(binary, "quickstart", "--out", self.quickstart)
        made(binary, "dedup", bench.chosen.pool / "recipe.toml")  # which `select` reads
        if not self.questions.is_dir():
            made(sys.executable, HERE.parent / "instruct/generate.py", self.questions, QUESTIONS)


def made(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-2000:]}")


def download(name, bench, inputs, output):
    """The words of a command that downloads over HTTP or HTTPS, with images as served or at 256 pixels."""
    scheme, pictures = name.split("-")
    url_list = bench.url_list(inputs.photos, inputs.server.urls[scheme], ROWS, 0)
    words = lynxdata_command("", url_list, output, "webdataset", inputs.server, 8)[1:]
    return [*words, *LYNXDATA_PICTURES[pictures]]


def folder(_name, _bench, _inputs, output):
    """The words of a command that reads the images of the quickstart from their folder."""
    output.mkdir()
    (output / "recipe.toml").write_text(FOLDER_RECIPE.format(images=HERE.parent.parent / "examples/quickstart/images"))
    return ["download", output / "recipe.toml"]


def again(name, source, output, *words):
    """The words of a stage that is done again in a copy of a run, where its files are missing."""
    shutil.copytree(source, output)
    shutil.rmtree(output / "run" / {"select": "selection", "dedup": "clusters"}.get(name, name), ignore_errors=True)
    return [name, output / "recipe.toml", *words]


def of_pool(name, bench, _inputs, output):
    return again(name, bench.chosen.pool, output)


def of_quickstart(name, _bench, inputs, output):
    return again(name, inputs.quickstart, output, *(FEW_STEPS if name == "check" else []))


def instruct(_name, _bench, inputs, output):
    output.mkdir()
    (output / "recipe.toml").write_text(INSTRUCT_RECIPE.format(folder=inputs.questions))
    return ["instruct", output / "recipe.toml"]


COMMANDS = {
    "http-keep": download,
    "https-256": download,
    "folder-256": folder,
    "dedup": of_pool,
    "select": of_pool,
    "shards": of_quickstart,
    "instruct": instruct,
    "check": of_quickstart,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--binaries", nargs="+", required=True, metavar="NAME=PATH", help="the first one is the base")
    parser.add_argument("--pool", type=Path, required=True, help="a folder that `generated_pool` wrote, with 100,000 pairs; `dedup` is run in it")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=[name for name in COMMANDS if name != "check"])
    chosen = parser.parse_args()
    binaries = dict(text.split("=", 1) for text in chosen.binaries)
    bench = Bench(chosen)
    inputs = Inputs(bench, next(iter(binaries.values())))
    print(f"| command | {' | '.join(binaries)} |")
    print(f"|---|{'---|' * len(binaries)}")
    with inputs.server:
        for name in chosen.commands:
            counts = []
            for profile, binary in binaries.items():
                output = bench.new_output(f"loss-{name}")
                words = COMMANDS[name](name, bench, inputs, output)
                counts.append(instructions(binary, words, bench.work / f"callgrind-{profile}-{name}"))
                shutil.rmtree(output)
            first = counts[0]
            shown = [f"{first / 1e9:.3f} · 10⁹", *(f"{(count / first - 1) * 100:+.1f} %" for count in counts[1:])]
            print(f"| `{name}` | {' | '.join(shown)} |", flush=True)


main()
