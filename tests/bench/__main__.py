"""python -m tests.bench [--short] [--only N ...] [--print]: measure, and write the document.

Each table's result is kept in build/bench/, so that some can be run again without the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from tests.bench.document import document, machine, section
from tests.bench.results import Table
from tests.bench.setting import Setting
from tests.bench.tables import connections, depth, doors, end_to_end, fan_out, latency, push_channel
from tests.bench.usage import Noise
from tests.support.tls import make_certificates

TABLES: Mapping[int, Callable[[Setting], Table]] = MappingProxyType(
    {
        1: end_to_end.measure,
        2: push_channel.measure,
        3: fan_out.measure,
        4: latency.measure,
        5: depth.measure,
        6: connections.measure,
        7: doors.measure,
    }
)
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "bench"


def main() -> None:
    """Measure what was asked for; write what is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure mcmt against its peers.")
    parser.add_argument("--short", action="store_true", help="every table in small: does the harness work?")
    parser.add_argument(
        "--only",
        type=int,
        nargs="*",
        choices=sorted(TABLES),
        metavar="N",
        help="these tables alone; none: write again what is known",
    )
    parser.add_argument("--print", action="store_true", help="say what was measured, and write no document")
    asked = parser.parse_args()
    form = "short" if asked.short else "long"
    KEPT.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for number in sorted(TABLES) if asked.only is None else asked.only:
        with tempfile.TemporaryDirectory(prefix="mcmt-bench-") as name:
            folder = Path(name)
            setting = Setting(folder, make_certificates(folder), asked.short, Noise(), started)
            table = TABLES[number](setting)
            noise, date = str(setting.noise), time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            table = msgspec.structs.replace(table, noise=noise, date=date, form=form)
        (KEPT / f"{form}-{number}.json").write_bytes(msgspec.json.encode(table))
        if asked.print:
            print(section(number, table))
    if asked.print:
        return
    known = {
        number: msgspec.json.decode(file.read_bytes(), type=Table)
        for number in TABLES
        if (file := KEPT / f"{form}-{number}.json").exists()
    }
    target = KEPT / "performance-short.md" if asked.short else ROOT / "docs" / "performance.md"
    target.write_text(document(known, machine()))
    print(target)


if __name__ == "__main__":
    main()
