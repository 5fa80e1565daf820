"""docs/performance.md: the tables as they were measured last, with machine, versions and noise."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import apsw

from mcmt import __version__
from tests.bench import installs
from tests.bench.results import Profile, Table

HEAD = """# Performance

Written by `make bench` (`tests/bench/`); do not edit. `make bench SHORT=1` runs every table in small, to see that they
work, and writes `build/bench/performance-short.md` instead.

Every figure comes from the peer's counter: the times, states and apns-ids in nginx's access log, smtp-sink's count of
messages. Contenders run in turn on the same machine, and a ratio is the median of the rounds' own ratios, so that what
disturbs a round disturbs both. CPU is user and system time of the contender's own processes, from rusage or /proc;
it suffers least from a machine that others use. nginx, the load generators and mcmt share the processors.
"""
BAR = 40
SMALLEST = 0.01
"""Shares of a profile below this are left out."""


def machine() -> list[tuple[str, str]]:
    """What it was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return [
        ("processors", f"{os.cpu_count()} x {model}, {memory:.0f} GB, Linux {platform.release()}"),
        (
            "mcmt",
            f"{__version__}; Python {platform.python_version()}, uvloop {metadata.version('uvloop')}",
        ),
        ("SQLite", f"{apsw.sqlite_lib_version()}, WAL, synchronous=FULL"),
        ("nginx", installs.version("nginx", "-v")),
        ("Postfix", installs.version("postconf", "-d", "mail_version")),
        ("h2load", installs.version("h2load", "--version")),
        ("@parse/node-apn", f"{installs.NODE_APN} on Node {installs.version('node', '--version')}"),
        ("aioapns", f"{installs.AIOAPNS}, on uvloop"),
    ]


def document(tables: Mapping[int, Table], about: Sequence[tuple[str, str]]) -> str:
    """The whole of it, as Markdown."""
    parts = [HEAD, grid(["", ""], [list(row) for row in about])]
    goals = [(number, table, goal) for number, table in sorted(tables.items()) for goal in table.goals]
    parts.append("## Goals\n")
    parts.append(
        grid(
            ["table", "goal", "measured", ""],
            [
                [f"{number} {table.title}", goal.text, goal.measured, "met" if goal.met else "**not met**"]
                for number, table, goal in goals
            ],
        )
    )
    parts += [section(number, table) for number, table in sorted(tables.items())]
    return "\n".join(parts).rstrip() + "\n"


def section(number: int, table: Table) -> str:
    """What is said of one table."""
    parts = [f"## {number} {table.title}\n\n{table.how}\n", grid(table.header, table.rows)]
    if table.chart:
        parts.append(chart(table.chart))
    parts += [f"{note}\n" for note in table.notes]
    parts.append(f"{table.date}, {table.form} form; {table.noise}.\n")
    parts += [profile(found) for found in table.profiles]
    return "\n".join(parts)


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines) + "\n"


def chart(bars: Sequence[tuple[str, float, str]]) -> str:
    """Bars of text, from nothing to the longest."""
    longest = max(length for _, length, _ in bars)
    width = max(len(label) for label, _, _ in bars)
    lines = [
        f"{label:>{width}} {'#' * max(1, round(BAR * length / longest))} {length:,.0f} {unit}"
        for label, length, unit in bars
    ]
    return "```\n" + "\n".join(lines) + "\n```\n"


def profile(found: Profile) -> str:
    """Where the time goes."""

    def listed(shares: Sequence[tuple[str, float]]) -> str:
        return ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= SMALLEST)

    lines = [f"Profile of {found.title}: {found.samples:,} samples of threads on a processor (py-spy).\n"]
    lines.append(f"- by station: {listed(found.stations)}")
    if len(found.threads) > 1:
        lines.append(f"- by thread: {listed(found.threads)}")
    lines.append("- by function:\n")
    lines.append(grid(["share", "function"], [[f"{share:.1%}", f"`{name}`"] for name, share in found.functions]))
    return "\n".join(lines)
