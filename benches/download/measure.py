"""Runs a command and measures the whole tree of processes that it becomes (Linux)."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

SAMPLE_SECONDS = 0.05
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class CommandFailed(Exception):
    """A measured command ended with an error."""


def end_on_sigterm():
    """Makes SIGTERM end the program as an exception does, so that whatever it started is stopped."""

    def end(number, _frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def members(session):
    """The processes of a session."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == session:
                    yield int(name)
            except ProcessLookupError:
                pass


def proportional_set_size(process):
    """Its memory in bytes, where a page that n processes share counts as one n-th of a page."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as lines:
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    except OSError:  # it ended meanwhile
        return 0


class PeakMemory(threading.Thread):
    """Samples the memory of a session until it is stopped; takes a fifth of one core at most."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session, self.peak, self.ended = session, 0, threading.Event()

    def run(self):
        pause = 0.0
        while not self.ended.wait(pause):
            begin = time.monotonic()
            self.peak = max(self.peak, sum(map(proportional_set_size, members(self.session))))
            pause = max(SAMPLE_SECONDS, 4 * (time.monotonic() - begin))

    def stop(self):
        self.ended.set()
        self.join()
        return self.peak


def measure(command, log, environment=None, server=None):
    """Runs the command in a session of its own, with its output in the file `log`.

    CPU time is that of all its descendants: those that their parents waited for are in the kernel's count of the parent, orphans are adopted
    and waited for here.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    load = os.getloadavg()[0]
    server_before = server.cpu_seconds() if server else 0.0
    with open(log, "wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    memory = PeakMemory(process.pid)
    memory.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        usages = [usage, *orphans(process.pid)]
    finally:
        end_session(process)
        peak = memory.stop()
    if process.returncode != 0:
        raise CommandFailed(f"{command[0]} ended with code {process.returncode}; see {log}")
    return {
        "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for usage in usages),
        "user_seconds": sum(usage.ru_utime for usage in usages),
        "system_seconds": sum(usage.ru_stime for usage in usages),
        "wall_seconds": wall,
        "peak_pss_bytes": peak,
        "largest_process_rss_bytes": max(usage.ru_maxrss for usage in usages) * 1024,
        "server_cpu_seconds": (server.cpu_seconds() if server else 0.0) - server_before,
        "load_before": load,
    }


def orphans(group, patience=5.0):
    """Waits for the descendants that outlived the command and returns their usages."""
    deadline = time.monotonic() + patience
    while True:
        try:
            process, _, usage = os.wait4(-group, os.WNOHANG)
        except ChildProcessError:
            return
        if process:
            yield usage
        elif time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            deadline = float("inf")
        else:
            time.sleep(0.01)


def end_session(process):
    """Ends whatever of the command still runs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    if process.returncode is None:
        process.wait()
