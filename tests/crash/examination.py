"""What stands in a spool and its logs after a crash, once the event log has written what it owed: the ledger.

The engine's own recovery without its listener and its deliveries, so that a state is judged in moments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import msgspec

from mcmt.app.parts import load_channels, load_settings
from mcmt.clock import SystemClock
from mcmt.errors import McmtError
from mcmt.eventlog.loggers import build_loggers
from mcmt.eventlog.readback import LogReader
from mcmt.eventlog.reconciliation import WRONG, Reconciliation
from mcmt.eventlog.writer import EventLogWriter
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.shard_files import shards_in
from mcmt.spool.sqlite import SqliteSpool
from mcmt.spool.state import StateStore


class Found(msgspec.Struct):
    """One state."""

    lost: set[str]
    """Batch ids that got a 250 and are in no log, or have neither ended nor wait."""
    wrong: list[str]
    """What the audit would say against it."""
    torn: int
    """Lines that are none."""
    quarantined: int
    waiting: int

    @property
    def well(self) -> bool:
        """Nothing is missing, and nothing stands twice."""
        return not (self.lost or self.wrong or self.torn or self.quarantined)


def examine(config: Path, promised: Collection[str]) -> Found:
    """Recover what *config* names, and hold it against the batch ids that got a 250."""
    try:
        return asyncio.run(_examine(config, promised))
    except McmtError as error:
        return Found(set(promised), [repr(error)], 0, 0, 0)


async def _examine(config: Path, promised: Collection[str]) -> Found:
    settings = load_settings(config, load_channels()).settings
    folder, clock = settings.spool.path, SystemClock()
    state = StateStore.open(folder)
    spools = {number: await SqliteSpool.open(folder, clock, 0, number, locked=True) for number in shards_in(folder)}
    said: list[str] = []
    sums = Reconciliation()
    quarantined = waiting = 0
    try:
        eventlog = EventLogWriter(StoredLogMemory(state), build_loggers(settings), clock, said.append)
        for number, spool in spools.items():
            eventlog.add(str(number), spool)
        await eventlog.start()
        await eventlog.flushed()
        await eventlog.stop()
        for spool in spools.values():
            quarantined += await spool.quarantined()
            after = 0
            while page := await spool.ids(after, 1000, 0.0):
                sums.queue(page.due, page.waiting)
                waiting += len(page.due) + len(page.waiting)
                after = page.last
    finally:
        for spool in spools.values():
            await spool.close()
        state.close()
    seen, ended = set(), Counter[bytes]()
    for lines in LogReader(settings.mainlog[0].logfile).blocks():
        sums.take(lines)
        for fields in (line.split(b"@", 5) for line in lines):
            if len(fields) == 6 and fields[4] == b"R":
                seen.add(fields[2].decode())
            elif len(fields) == 6 and fields[4] in (b"D", b"P"):
                ended[fields[1]] += 1
    still = sums.ended_and_queued()
    account = sums.account(0.0, still)
    wrong = [f"{finding.id} {finding.what}" for finding in account.findings if finding.what in WRONG]
    pushed = Counter(
        fields[2]
        for log in settings.channel_loggers
        for lines in LogReader(log.logfile).blocks()
        for fields in (line.split(b"@") for line in lines)
        if len(fields) > 2 and fields[1] in (b"D", b"P")
    )
    wrong += [
        f"{id_.decode()} has {ended[id_]} final lines in one log and {pushed[id_]} in the other"
        for id_ in ended.keys() | pushed.keys()
        if ended[id_] != pushed[id_]
    ]
    missing = {finding.id.partition("-")[0] for finding in account.findings if finding.what == "missing"}
    lost = {batch for batch in promised if batch not in seen or batch in missing}
    return Found(lost, wrong, account.unreadable, quarantined, waiting)
