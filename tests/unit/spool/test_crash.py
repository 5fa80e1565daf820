"""Killed at any moment, the spool has what it said it had, and its events tell what is true."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import tests
from mcmt.message.event import Kind
from mcmt.spool.port import Selection
from mcmt.spool.sqlite import open_spool
from tests.unit.spool.samples import NOW, events

ROUNDS = 6


def run_and_kill(folder: Path, number: int, lines: int) -> Counter[str]:
    """Have a child work on the spool, kill it after so many lines of report; the lines."""
    command = [sys.executable, "-m", "tests.unit.spool.crash_child", str(folder), str(number)]
    root = Path(tests.__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdout is not None
        report = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        report += child.stdout.readlines()
    assert child.returncode == -9
    return Counter(line.decode().strip() for line in report if line.endswith(b"\n"))


async def test_nothing_acknowledged_is_lost_and_nothing_settled_twice(tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    reported = False
    for number in range(ROUNDS):
        lines = 50 + random.Random(number).randrange(2000)
        told += await asyncio.to_thread(run_and_kill, tmp_path / "spool", number, lines)
        spool = await open_spool(tmp_path / "spool")
        entries = {entry.id: entry for _, entry in await spool.browse(Selection(), 0, 1_000_000)}
        happened = Counter((one.kind, one.id) for one in await events(spool))
        assert await spool.quarantined() == 0
        owed = Counter(
            f"{one.sender.batch_id}-{dead.number}"
            for one in await spool.pull_reports(NOW + 1e6, 1_000_000)
            for dead in one.failures
        )
        await spool.close()

        received = {id_ for kind, id_ in happened if kind == Kind.RECEPTION}
        failed = {id_ for kind, id_ in happened if kind == Kind.PERMANENT}
        delivered = {id_ for kind, id_ in happened if kind == Kind.DELIVERY} | failed
        # A failure is owed a report or was told by one, never both, and none twice.
        assert owed + Counter({id_: happened[Kind.REJECTION, id_] for id_ in failed}) == Counter(failed)
        reported = reported or any(kind == Kind.REJECTION for kind, _ in happened)
        # A delivery exists or was settled, never both, and only if it was received.
        assert entries.keys() | delivered == received
        assert not entries.keys() & delivered
        assert max(happened[kind, id_] for kind, id_ in happened if kind != Kind.TRANSIENT) == 1
        # What was reported as done is there; what is there was begun.
        batches = {id_.partition("-")[0] for id_ in received}
        assert {line[2:] for line in told if line[0] == "A"} <= batches <= {line[2:] for line in told if line[0] == "a"}
        assert (
            {line[2:] for line in told if line[0] == "S"} <= delivered <= {line[2:] for line in told if line[0] == "s"}
        )
        for id_, entry in entries.items():
            assert entry.attempts == happened[Kind.TRANSIENT, id_]
            assert told[f"T {id_}"] <= entry.attempts <= told[f"t {id_}"]
    assert any(line[0] == "S" for line in told)
    assert reported
