"""What processes and the machine have used, from /proc and wait4."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TICK = 1 / os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """The fields of /proc/PID/stat (proc(5)) that count here."""

    parent: int
    own: float
    """Seconds of CPU."""
    reaped: float
    """Of children that have ended and been waited for."""


def parse_stat(line: str) -> Stat:
    """Fields are counted from behind the program's name, which may hold blanks and brackets."""
    fields = line.rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) * TICK for field in fields[11:15])
    return Stat(int(fields[1]), user + system, child_user + child_system)


def processes() -> dict[int, Stat]:
    """Every process of the machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = parse_stat((folder / "stat").read_text())
        except OSError:
            continue  # it has ended meanwhile
    return found


def family(pid: int, everyone: dict[int, Stat]) -> list[int]:
    """*pid* and all that descend from it."""
    members = [pid]
    for member in members:
        members += [other for other, stat in everyone.items() if stat.parent == member]
    return members


def cpu_of(pid: int) -> float:
    """Seconds of CPU that *pid* and its descendants have used, those that have ended included."""
    everyone = processes()
    return sum(everyone[member].own + everyone[member].reaped for member in family(pid, everyone))


def parse_memory(status: str, field: str) -> int:
    """Bytes of a field of /proc/PID/status."""
    (line,) = (line for line in status.splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def resident(pid: int) -> int:
    """Bytes resident now."""
    return parse_memory(Path(f"/proc/{pid}/status").read_text(), "VmRSS")


def peaks_resident(pid: int) -> list[int]:
    """Of *pid* and of each process that descends from it, the most bytes that were resident since ``forget_peaks``."""
    members = family(pid, processes())
    return [parse_memory(Path(f"/proc/{member}/status").read_text(), "VmHWM") for member in members]


def forget_peaks(pid: int) -> None:
    """Begin to look for the peaks anew."""
    for member in family(pid, processes()):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def run(command: Sequence[str], within: float) -> float:
    """Run a program to its end; seconds of CPU by its rusage. AssertionError with what it said when it fails."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        before = children_cpu()
        try:
            said, _ = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, f"{command}: {said[-2000:]}"
    return children_cpu() - before


def children_cpu() -> float:
    """Seconds of CPU of this process's children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def busy_ticks(stat: str) -> tuple[int, int]:
    """From /proc/stat: ticks in which the machine's processors did something, and all ticks; stolen ones are busy."""
    user, nice, system, idle, wait, irq, soft, steal = (int(field) for field in stat.splitlines()[0].split()[1:9])
    busy = user + nice + system + irq + soft + steal
    return busy, busy + idle + wait


class Noise:
    """What the machine does while this harness does nothing: looked at between the runs."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def look(self, seconds: float = 0.3) -> None:
        """Take a sample; nothing of ours may be at work."""
        busy, ticks = busy_ticks(Path("/proc/stat").read_text())
        time.sleep(seconds)
        busy_after, ticks_after = busy_ticks(Path("/proc/stat").read_text())
        self.shares.append((busy_after - busy) / max(1, ticks_after - ticks))

    def __str__(self) -> str:
        load = os.getloadavg()[0]
        if not self.shares:
            return f"load average {load:.1f} at the end"
        mean = sum(self.shares) / len(self.shares)
        return (
            f"between the runs others kept {mean:.0%} of the machine's processors busy "
            f"(at most {max(self.shares):.0%}, {len(self.shares)} looks); load average {load:.1f} at the end"
        )
