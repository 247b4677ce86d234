"""How scripts that load with `datasets` give their answer."""

import json
import os
import sys


def answer(value):
    """Prints the value as JSON and ends the process. Now and then Python itself does not come to its end after
    `datasets`: a thread of it still runs, and the process aborts with all printed ("terminate called without an
    active exception", datasets 5.2.0 with pyarrow 26.0.1 on a busy machine)."""
    print(json.dumps(value))
    sys.stdout.flush()
    os._exit(0)
