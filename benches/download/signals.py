#!/usr/bin/env python3
"""What signals cost when they are measured with the download, and when they are measured after it. See README.md."""

import argparse
import hashlib
import shutil
import statistics
import sys

from bench import Bench, add_arguments, say
from measure import CommandFailed, end_on_sigterm, measure
from serve import Server

CASES = {
    "256": 'resize = "shorter"\nsize = 256\nonly_if_larger = false',
    "keep": 'resize = "keep"',
    "keep, structure checked": 'resize = "keep"\ncheck = "structure"',
}
# The stages of such a recipe one by one, and all of them at once.
WAYS = {"after": ["download", "signals", "dedup", "report"], "with": ["run"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--rows", type=int, default=6666, metavar="N", help="rows of the list (default: 6666)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each way, in turn (default: 3)")
    chosen = parser.parse_args()
    if not chosen.lynxdata:
        parser.error("--lynxdata is needed")
    return chosen


def digest_of_tables(folder):
    tables = sorted((folder / "run/signals").glob("*.parquet"))
    return hashlib.sha256(b"".join(table.read_bytes() for table in tables)).hexdigest()


def measure_way(bench, server, url_list, case, way):
    folder = bench.new_output("signals")
    folder.mkdir()
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'output = "run"\n[source]\npath = "{url_list}"\nurl = "url"\ncaption = "caption"\n[download]\nallow_private_addresses = true\n'
        f"rows_per_part = 1000\nconcurrency = 32\nrequests_per_host = 32\nretries = 0\nmax_failed_fraction = 1.0\n{CASES[case]}\n"
    )
    runs = [measure([bench.chosen.lynxdata, command, recipe], bench.work / "signals.log", None, server) for command in WAYS[way]]
    digest = digest_of_tables(folder)
    shutil.rmtree(folder)
    seconds = sum(run["cpu_seconds"] for run in runs) / bench.chosen.rows * 1000
    say(f"{case}, {way} the download: {seconds:.3f}")
    return seconds, digest


def main():
    chosen = arguments()
    end_on_sigterm()
    bench = Bench(chosen)
    pictures = bench.pictures("photos", chosen.pictures)
    table, runs, differ = [], [], False
    with Server(bench.work / "server", pictures, chosen.port) as server:
        url_list = bench.url_list(pictures, server.urls["http"], chosen.rows, chosen.rows // 10)
        for case in CASES:
            found = {way: [] for way in WAYS}
            for _ in range(chosen.runs):
                for way in WAYS:
                    found[way].append(measure_way(bench, server, url_list, case, way))
            differ |= len({digest for ways in found.values() for _, digest in ways}) != 1
            after, along = (statistics.median([seconds for seconds, _ in found[way]]) for way in WAYS)
            table.append({"case": case, "after": f"{after:.3f}", "with": f"{along:.3f}", "with/after": f"{along / after:.2f}"})
            runs.append({"case": case, **found})
    bench.report("signals", table, runs)
    if differ:
        print("the signal tables differ")
    return 1 if differ else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandFailed as error:
        sys.exit(str(error))
