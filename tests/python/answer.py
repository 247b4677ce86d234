"""Prints the answer of scripts that use `datasets`."""

import json
import os
import sys


def answer(value):
    """Prints the value as JSON and ends the process. Sometimes Python does not exit cleanly after
    `datasets`: one of its threads still runs, and the process aborts after printing ("terminate called without an
    active exception", datasets 5.2.0 with pyarrow 26.0.1 on a busy machine)."""
    print(json.dumps(value))
    sys.stdout.flush()
    os._exit(0)
