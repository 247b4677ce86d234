#!/usr/bin/env python3
"""Runs rustc as cargo asks for it and appends the crate and its CPU-seconds to a file: cargo's RUSTC_WRAPPER in run.py."""

import os
import resource
import subprocess
import sys

command = sys.argv[1:]
# rustc needs the pipes of cargo's jobserver.
code = subprocess.run(command, close_fds=False).returncode
spent = resource.getrusage(resource.RUSAGE_CHILDREN)
if "--crate-name" in command:
    crate = command[command.index("--crate-name") + 1]
    with open(os.environ["RUSTC_SECONDS"], "a", encoding="utf-8") as file:
        file.write(f"{crate}\t{spent.ru_utime + spent.ru_stime:.2f}\n")
sys.exit(code)
