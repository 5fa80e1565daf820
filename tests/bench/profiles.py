"""Where a process spends its time, by py-spy's samples of threads that are on a processor."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.bench.installs import py_spy
from tests.bench.results import Profile

RATE = 200
"""Samples a second."""
SHOWN = 14
"""Functions in the document."""
EVENT_LOOP = "event loop: sockets, TLS, timers (uvloop)"
HAND_OVER = "hand-over between threads"
THREAD_POOL = "concurrent/futures/thread.py"
STARTS = frozenset({"mcmt", "mcmt/cli"})
"""What only starts the loop is below every stack."""


def station(frame: str) -> str | None:
    """The folder of ours that a frame belongs to, ``function (file:line)``; None for others' code."""
    place = frame.rpartition(" (")[2]
    for top, depth in (("mcmt/", 2), ("channels/", 2)):
        at = place.find(top)
        if at >= 0 and "site-packages" not in place:
            folders = place[at:].split("/")
            found = "/".join(folders[:depth]) if len(folders) > depth else folders[0]
            return None if found in STARTS else found
    return None


def parse_raw(raw: str, title: str) -> Profile:
    """py-spy's raw format: a line a stack, frames from the outside in parted by ``;``, then a blank and the count."""
    stations: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        frames, count = stack.split(";"), int(number)
        if frames[0].startswith("process "):  # with --subprocesses
            frames.pop(0)
        if frames[0].startswith("thread ("):
            threads[thread_name(frames.pop(0))] += count
        if not frames:
            continue
        ours = next((found for frame in reversed(frames) if (found := station(frame))), None)
        stations[ours or (HAND_OVER if THREAD_POOL in stack else EVENT_LOOP)] += count
        functions[function_name(frames[-1])] += count
    total = max(1, sum(stations.values()))

    def shares(counts: Counter[str], limit: int | None = None) -> list[tuple[str, float]]:
        return [(name, count / total) for name, count in counts.most_common(limit)]

    return Profile(title, total, shares(stations), shares(threads), shares(functions, SHOWN))


def thread_name(frame: str) -> str:
    """``thread (0x7F): MainThread`` without its address, which differs from run to run."""
    return frame.partition("): ")[2] or frame


def function_name(frame: str) -> str:
    """``function (file:line)`` without the line, so that one function is one entry, and without the way to its file."""
    name, _, place = frame.rpartition(" (")
    file = place.rpartition(":")[0] if ":" in place else place.rstrip(")")
    for top in ("mcmt/", "channels/", "site-packages/"):
        if top in file:
            file = (top if top != "site-packages/" else "") + file.rpartition(top)[2]
            break
    return f"{name} ({file})"


def profiled(pid: int, folder: Path, title: str, work: Callable[[], object]) -> Profile:
    """Sample the process while *work* is done. It is slowed down: no figure is taken meanwhile."""
    raw = folder / "profile.raw"
    command = [str(py_spy()), "record", "--pid", str(pid), "--rate", str(RATE), "--format", "raw", "--threads"]
    command += ["--subprocesses", "--nonblocking", "--output", str(raw), "--duration", "600"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spy:
        try:
            work()
        finally:
            if spy.poll() is None:
                spy.send_signal(signal.SIGINT)
            spy.wait(30)
    return parse_raw(raw.read_text(), title)
