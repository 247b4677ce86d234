#!/usr/bin/env python3
"""What downloading costs: lynxdata beside img2dataset and beside the floor, on one machine in one run. See README.md."""

import argparse
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from bench import LYNXDATA_PICTURES, Bench, add_arguments, lynxdata_command, say
from measure import CommandFailed, end_on_sigterm, measure
from serve import Server

CASES = ["http-keep", "https-keep", "http-256", "https-256"]
FLOORS = ["http", "https", "pixels"]
BAD_PERCENT = 10
IN_FLIGHT = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--picture-speed", type=Path, metavar="PATH", help="the example `picture_speed` of lynxdata-picture")
    parser.add_argument("--rows", type=int, default=6666, help="rows of the list, a tenth of them bad (default: 6666)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--runs", type=int, default=3, help="times that everything is measured (default: 3)")
    return parser.parse_args()


def img2dataset(program, pictures, url_list, output, server):
    """Its command, and its environment."""
    pictures = {
        "keep": ["--disable_all_reencoding", "True"],
        "256": ["--resize_mode", "keep_ratio", "--image_size", 256, "--encode_quality", 95],
    }[pictures]
    command = [
        *(program, "--url_list", url_list, "--input_format", "parquet", "--url_col", "url", "--caption_col", "caption"),
        *("--output_folder", output, "--output_format", "webdataset", "--number_sample_per_shard", 1000, "--retries", 0),
        *("--processes_count", 2, "--thread_count", IN_FLIGHT),
    ]
    environment = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "SSL_CERT_FILE": str(server.bundle)}
    return command + pictures, environment


def lynxdata(program, pictures, url_list, output, server):
    """Its command, and its environment."""
    command = lynxdata_command(program, url_list, output, "webdataset", server, IN_FLIGHT)
    return command + LYNXDATA_PICTURES[pictures], {}


def curl(url_list, server):
    """The same URLs, with connections kept and the bodies thrown away."""
    configuration = url_list.with_suffix(".curl")
    urls = url_list.with_suffix(".txt").read_text().split()
    configuration.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
    command = ["curl", "--parallel", "--parallel-max", IN_FLIGHT, "--no-progress-meter"]
    return [*command, "--cacert", server.authority, "--config", configuration]


def picture_speed(program, pictures):
    """CPU seconds for 1000 pictures: the last column of the example's last line, milliseconds for one."""
    printed = subprocess.run([program, pictures, "1"], capture_output=True, text=True, check=True).stdout.splitlines()
    if len(printed) < 2 or not printed[0].endswith("prepare ms") or not printed[-1].startswith("all "):
        sys.exit(f"{program} prints no line `all` with a last column `prepare ms`")
    return float(printed[-1].split()[-1])


class Figures:
    """All runs by case and tool."""

    def __init__(self, rows, good):
        self.rows, self.good, self.runs = rows, good, {}

    def add(self, case, tool, run):
        run.setdefault("cpu_per_1000", run.get("cpu_seconds", 0) / self.rows * 1000)
        self.runs.setdefault(case, {}).setdefault(tool, []).append(run)
        say(f"{case} {tool}: {run['cpu_per_1000']:.3f} CPU-s per 1000 URLs")

    def median(self, case, tool, key):
        values = [run[key] for run in self.runs.get(case, {}).get(tool, []) if key in run]
        return statistics.median(values) if values else None

    def floor(self, case):
        """What curl needs for the bytes, and OpenCV for the pixels where they are changed."""
        scheme, pictures = case.split("-")
        parts = [self.median(scheme, "curl", "cpu_per_1000")]
        if pictures != "keep":
            parts.append(self.median("pixels", "OpenCV", "cpu_per_1000"))
        return None if None in parts else sum(parts)

    def table(self):
        cases = [case for case in CASES + FLOORS if case in self.runs]
        return [self.row(case, tool) for case in cases for tool in self.runs[case]]

    def row(self, case, tool):
        def shown(value, digits, scale=1.0):
            return "" if value is None else f"{value * scale:.{digits}f}"

        def median(key):
            return self.median(case, tool, key)

        costs = [run["cpu_per_1000"] for run in self.runs[case][tool]]
        peer = self.median(case, "img2dataset", "cpu_per_1000")
        floor = self.floor(case) if case in CASES else None
        cost, wall = statistics.median(costs), median("wall_seconds")
        return {
            "case": case,
            "tool": tool,
            "CPU-s": shown(cost, 3),
            "min": shown(min(costs), 3),
            "max": shown(max(costs), 3),
            "/img2dataset": shown(peer and cost / peer, 3),
            "/floor": shown(floor and cost / floor, 2),
            "URLs/s": shown(wall and self.rows / wall, 0),
            "PSS MB": shown(median("peak_pss_bytes"), 0, 1e-6),
            "RSS MB": shown(median("largest_process_rss_bytes"), 0, 1e-6),
            "server": shown(median("server_cpu_seconds"), 3, 1000 / self.rows),
            "pictures": shown(median("pictures"), 0),
            "others": shown(median("others"), 0),
        }

    def losses(self):
        """Runs that did not write all good pictures, in words."""
        for case, tools in self.runs.items():
            for tool, runs in tools.items():
                for run in runs:
                    if run.get("pictures", self.good) != self.good:
                        yield f"{case} {tool} wrote {run['pictures']} good pictures instead of {self.good}"


def measure_case(bench, case, tool, command_of, program, pictures, url_list, server):
    output = bench.new_output(f"{case}-{tool}")
    what = case.split("-")[1]
    command, environment = command_of(program, what, url_list, output, server)
    run = measure(command, bench.work / f"{case}-{tool}.log", environment, server)
    run |= bench.count(what, pictures, output)
    shutil.rmtree(output)
    return run


def measure_floors(bench, figures, schemes, pixels, lists, pictures, server):
    chosen = bench.chosen
    for scheme in schemes:
        figures.add(scheme, "curl", measure(curl(lists[scheme], server), bench.work / f"curl-{scheme}.log", None, server))
    if pixels:
        share = figures.good / figures.rows  # bad rows have no pixels
        figures.add("pixels", "OpenCV", {"cpu_per_1000": share * float(bench.script("opencv_floor.py", pictures / "img"))})
        if chosen.picture_speed:
            figures.add("pixels", "lynxdata", {"cpu_per_1000": share * picture_speed(chosen.picture_speed, pictures / "img")})


def main():
    chosen = arguments()
    end_on_sigterm()
    bench = Bench(chosen)
    pictures = bench.pictures("photos", chosen.pictures)
    bad = chosen.rows * BAD_PERCENT // 100
    figures = Figures(chosen.rows, chosen.rows - bad)
    tools = [("img2dataset", img2dataset, chosen.img2dataset), ("lynxdata", lynxdata, chosen.lynxdata)]
    schemes = sorted({case.split("-")[0] for case in chosen.cases})
    pixels = any(not case.endswith("keep") for case in chosen.cases)
    with Server(bench.work / "server", pictures, chosen.port) as server:
        lists = {scheme: bench.url_list(pictures, server.urls[scheme], chosen.rows, bad) for scheme in schemes}
        for _ in range(chosen.runs):
            for case in chosen.cases:
                for tool, command_of, program in tools:
                    if program:
                        url_list = lists[case.split("-")[0]]
                        run = measure_case(bench, case, tool, command_of, program, pictures, url_list, server)
                        figures.add(case, tool, run)
            measure_floors(bench, figures, schemes, pixels, lists, pictures, server)
    bench.report("run", figures.table(), figures.runs)
    losses = list(figures.losses())
    for loss in losses:
        print(loss)
    return 1 if losses else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandFailed as error:
        sys.exit(str(error))
