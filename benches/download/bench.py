"""What the programs of this folder have in common: the work folder with all that is made, their arguments, and tables."""

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = Path.home() / ".cache/lynxdata-bench"


def add_arguments(parser):
    parser.add_argument("--lynxdata", type=Path, metavar="PATH", help="the binary; a release build")
    parser.add_argument("--img2dataset", type=Path, metavar="PATH", help="its program in the virtual environment of README.md")
    parser.add_argument("--python", type=Path, metavar="PATH", help="the environment's interpreter (default: beside img2dataset)")
    parser.add_argument("--work", type=Path, default=WORK, metavar="FOLDER", help=f"for all that is made (default: {WORK})")
    parser.add_argument("--pictures", type=int, default=3000, metavar="N", help="different pictures (default: 3000)")
    parser.add_argument("--port", type=int, default=8391, help="of http; https has the next one (default: 8391)")


class Bench:
    """The work folder: pictures, lists and outputs."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.work = chosen.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        beside = chosen.img2dataset.parent / "python" if chosen.img2dataset else Path(sys.executable)
        self.python = chosen.python or beside
        self.lock = open(self.work / ".lock", "w")  # held until this process ends
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another bench uses {self.work}")

    def script(self, name, *words):
        """Runs a script of this folder in the virtual environment and returns what it prints."""
        command = [str(word) for word in (self.python, HERE / name, *words)]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command)} failed; has {self.python} the packages that README.md names?")
        return result.stdout

    def pictures(self, kind, number):
        """The folder of a set of pictures, which is made if it is not there."""
        folder = self.work / f"{kind}-{number}"
        if not (folder / "pictures.json").exists():
            say(f"making {number} pictures in {folder}")
            self.script("pictures.py", kind, folder, number)
        for path in folder.glob("*/*"):
            path.read_bytes()  # so that the first run finds them in memory, as the others do
        return folder

    def url_list(self, pictures, base, rows, bad):
        """A Parquet file with `rows` URLs, `bad` of them bad; a text file with the same URLs stands beside it."""
        path = self.work / f"list-{base.partition(':')[0]}-{rows}.parquet"
        self.script("pictures.py", "list", pictures, base, rows, bad, path)
        return path

    def count(self, what, pictures, output):
        return json.loads(self.script("count.py", what, pictures / "pictures.json", output))

    def new_output(self, name):
        """A folder of that name that does not exist."""
        folder = self.work / "output" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        return folder

    def report(self, name, table, runs):
        """Prints the table and writes it, with every single run and what the figures depend on, as JSON."""
        print_table(table)
        path = self.work / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        content = {"arguments": {key: str(value) for key, value in vars(self.chosen).items()}, **self.machine()}
        path.write_text(json.dumps({**content, "table": table, "runs": runs}, indent=1))
        say(f"written to {path}")

    def machine(self):
        def first_line(*command):
            return subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0]

        versions = {"kernel": platform.release(), "curl": first_line("curl", "--version")}
        if self.chosen.lynxdata:
            versions["lynxdata"] = first_line(self.chosen.lynxdata, "--version")
        if self.chosen.img2dataset:
            version = "from importlib.metadata import version; print(version('img2dataset'), version('opencv-python-headless'))"
            versions["img2dataset, OpenCV"] = first_line(self.python, "-c", version)
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(), "versions": versions}


def lynxdata_command(program, url_list, output, output_format, server, in_flight):
    """Without what is done to the pictures. All in flight may go to one host, as there is but one."""
    return [
        *(program, "download", "--url-list", url_list, "--input-format", "parquet", "--url-col", "url", "--caption-col", "caption"),
        *("--output-folder", output, "--output-format", output_format, "--number-sample-per-shard", 1000, "--retries", 0),
        *("--thread-count", in_flight, "--set", f"download.requests_per_host={in_flight}"),
        *("--allow-private-addresses", "--ca-file", server.authority),
    ]


LYNXDATA_PICTURES = {
    "keep": ["--disable-all-reencoding"],
    # img2dataset enlarges pictures that are too small; lynxdata has to be told.
    "256": ["--resize-mode", "keep_ratio", "--image-size", 256, "--encode-quality", 95, "--set", "download.only_if_larger=false"],
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def print_table(rows):
    """Rows of texts by column name; columns of words to the left, numbers to the right."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        cells = (text.ljust(widths[name]) if name in ("case", "tool") else text.rjust(widths[name]) for name, text in row.items())
        print("  ".join(cells).rstrip())
