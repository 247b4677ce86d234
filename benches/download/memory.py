#!/usr/bin/env python3
"""How lynxdata's memory grows with the list, with many requests in flight. See README.md."""

import argparse
import json
import shutil
import sys

from bench import LYNXDATA_PICTURES, Bench, add_arguments, lynxdata_command, say
from measure import CommandFailed, end_on_sigterm, measure
from serve import Server

SMALL_PICTURES = 256
# Of a row in the list, the pool and the log, besides the picture; bytes, generously.
ROW_BYTES = 1000


def arguments():
    def numbers(text):
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    sizes = "rows of the lists of small pictures (default: 10000,100000,1000000)"
    parser.add_argument("--rows", type=numbers, default=[10_000, 100_000, 1_000_000], metavar="N,…", help=sizes)
    parser.add_argument("--photo-rows", type=int, default=10_000, metavar="N", help="rows of the list of photos; 0: none (default: 10000)")
    parser.add_argument("--in-flight", type=int, default=256, metavar="N", help="requests in flight (default: 256)")
    chosen = parser.parse_args()
    if not chosen.lynxdata:
        parser.error("--lynxdata is needed")
    return chosen


def require_disk(folder, pictures, rows):
    sizes = [picture["bytes"] for picture in json.loads((pictures / "pictures.json").read_text())]
    needed = rows * (sum(sizes) / len(sizes) + ROW_BYTES)
    free = shutil.disk_usage(folder).free
    if free < 1.5 * needed:
        sys.exit(f"{rows} rows need {needed / 1e9:.1f} GB in {folder}, of which 1.5 times should be free, not {free / 1e9:.1f} GB")


def measure_list(bench, server, pictures, rows, what):
    """One download of good rows into Parquet."""
    chosen = bench.chosen
    require_disk(bench.work, pictures, rows)
    url_list = bench.url_list(pictures, server.urls["http"], rows, 0)
    output = bench.new_output("memory")
    command = lynxdata_command(chosen.lynxdata, url_list, output, "parquet", server, chosen.in_flight)
    try:
        run = measure(command + LYNXDATA_PICTURES[what], bench.work / "memory.log", None, server)
        run |= bench.count("pool", pictures, output)
    finally:
        shutil.rmtree(output, ignore_errors=True)
        url_list.unlink()
        url_list.with_suffix(".txt").unlink()
    say(f"{pictures.name} {what}, {rows} rows: {run['peak_pss_bytes'] / 1e6:.0f} MB")
    return {"case": f"{pictures.name.partition('-')[0]} {what}", "rows": rows, **run}


def row(run):
    return {
        "case": run["case"],
        "rows": str(run["rows"]),
        "PSS MB": f"{run['peak_pss_bytes'] / 1e6:.0f}",
        "RSS MB": f"{run['largest_process_rss_bytes'] / 1e6:.0f}",
        "CPU-s": f"{run['cpu_seconds'] / run['rows'] * 1000:.3f}",
        "URLs/s": f"{run['rows'] / run['wall_seconds']:.0f}",
        "pictures": str(run["pictures"]),
    }


def main():
    chosen = arguments()
    end_on_sigterm()
    bench = Bench(chosen)
    runs = []
    plan = [("small", SMALL_PICTURES, rows, "keep") for rows in chosen.rows]
    if chosen.photo_rows:
        plan += [("photos", chosen.pictures, chosen.photo_rows, what) for what in LYNXDATA_PICTURES]
    for kind, number, rows, what in plan:
        pictures = bench.pictures(kind, number)
        with Server(bench.work / "server", pictures, chosen.port) as server:
            runs.append(measure_list(bench, server, pictures, rows, what))
    bench.report("memory", [row(run) for run in runs], runs)
    losses = [run for run in runs if run["pictures"] != run["rows"]]
    for run in losses:
        print(f"{run['case']}: {run['pictures']} pictures of {run['rows']} rows")
    return 1 if losses else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandFailed as error:
        sys.exit(str(error))
