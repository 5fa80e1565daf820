"""The spool on SQLite: the port's promises, kept by one writing thread and reading ones.

One shard file in the spool folder holds everything that one engine keeps. Every change goes through the
writer's group commit (writer.py); pulls (reader.py) and listings (listing.py) have threads and connections of
their own, so that no pull waits behind an fsync or a listing. The event loop itself touches no file.

This class lives on the event loop: it turns calls into jobs and requests, and answers into results. It must
not decide anything about deliveries: when they are due again is the engine's word.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from mcmt.clock import Clock, SystemClock
from mcmt.errors import NotOut, SpoolError, SpoolFull, SpoolUnusable
from mcmt.message.event import Event, OutboxRow
from mcmt.message.failure import Failure
from mcmt.message.model import Delivery, Message, NewDelivery
from mcmt.message.priority import BULK
from mcmt.spool import port
from mcmt.spool.acknowledging import Acknowledging
from mcmt.spool.away import AS_IT_WAS, GONE, Ledger
from mcmt.spool.commits import SETTLE_SECONDS, Commits
from mcmt.spool.folder import FolderLock
from mcmt.spool.handover import Handover
from mcmt.spool.held import moves
from mcmt.spool.jobs import Bounce, Quarantine, Reschedule, Settle, SpoolJob, Undeliverable, Warn, quarantine_events
from mcmt.spool.late import Late
from mcmt.spool.listing import Listing
from mcmt.spool.opening import open_files
from mcmt.spool.pulls import Pulls
from mcmt.spool.reader import MAX_EXPIRED_BYTES, NO_LIMIT, Reader, Request
from mcmt.spool.reports import Reports
from mcmt.spool.salvage import mark
from mcmt.spool.shard_files import shard_file
from mcmt.spool.space import Space
from mcmt.spool.tracker import ShardTracker
from mcmt.spool.transaction import Damaged

SHARD = "shard-0.sqlite"
"""The first shard: the only one of an engine without workers."""

_T = TypeVar("_T")


async def open_spool(path: Path, clock: Clock | None = None) -> SqliteSpool:
    """Open the spool in folder *path*, created if there is none.

    Raises SpoolLocked when another engine holds it, SpoolUnusable when it cannot be used.
    """
    return await SqliteSpool.open(path, clock)


class SqliteSpool:
    """``mcmt.spool.port.Spool``, on one shard file."""

    @classmethod
    async def open(
        cls, path: Path, clock: Clock | None = None, min_free: int = 0, shard: int = 0, *, locked: bool = False
    ) -> SqliteSpool:
        """Open a shard of the spool in folder *path*. *clock* only dates a new file and events about damage.

        *min_free*: bytes of its disk that no new message may take. *locked*: the caller holds the folder's lock.
        """
        clock = clock or SystemClock()
        lock, writer, readers = await asyncio.to_thread(open_files, path, shard_file(shard), locked, clock.time())
        return cls(lock, writer, readers, clock, Space(path, min_free))

    def __init__(
        self,
        lock: FolderLock | None,
        writer: apsw.Connection,
        readers: tuple[apsw.Connection, ...],
        clock: Clock,
        space: Space,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = lock
        self._clock = clock
        self._space = space
        self._closed = False
        self._damaged = False
        self._ledger = Ledger()
        pulls, log, listing = readers
        self._pull_thread = ThreadPoolExecutor(1, "mcmt-spool-pull")
        self._listing_thread = ThreadPoolExecutor(1, "mcmt-spool-list")
        self._reader = Reader(pulls, self._ledger)
        self._log = Listing(log)
        self._listing = Listing(listing)
        self._reports = Reports(listing)
        self._late = Late(listing)
        self._pulls = Pulls(self._reader, self._ledger, self._pull_thread)
        self._handover = Handover(self._ledger, self._pulls)
        self._damage_listeners: list[Callable[[], None]] = []
        self._file = Path(writer.filename)
        self._commits = Commits(writer, self._handover.tell, self._pulls.leave, self._note_damage)
        self._acknowledging = Acknowledging(self._commits, clock)
        ask, put = partial(self._ask, self._listing_thread), self._commits.put
        self.tracker = ShardTracker(self._listing, ask, self._has_room, put, self._require_space, self._mark)

    # ---- what changes the spool

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        """Keep a message with all its deliveries."""
        await self.tracker.accept(message, deliveries, events, failures)

    async def settle(self, settlements: Sequence[port.Settlement], events: Sequence[Event]) -> None:
        """Finish or reschedule deliveries that are out."""
        await self._has_room()
        out = self._ledger.out
        try:
            pairs = [(settlement, out[settlement.row]) for settlement in settlements]
        except KeyError as error:
            raise NotOut(error.args[0]) from None
        await self._commits.put(Settle(self._loop.create_future(), pairs, events), SETTLE_SECONDS)

    async def change(self, rows: Collection[int], change: port.Change, events: Sequence[Event]) -> None:
        """Change deliveries that are out; then they are not any more."""
        await self._has_room()
        out = self._ledger.out
        changed = moves(change, rows, out)
        if changed:
            await self._commits.put(Reschedule(self._loop.create_future(), changed, events))
        for row, due, domain in changed:
            # It comes back into the domain, and at the time, that it has now.
            out[row] = out[row]._replace(domain=domain, due=due)
        for domain, priority in {(one.domain, out[one.row].priority) for one in changed}:
            self._pulls.left(domain, priority)
        self.release(rows)

    async def report(
        self,
        owed: port.OwedReport,
        bounce: Message | None,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
    ) -> None:
        """Accept the message that makes a report, and let go of the failures that it tells."""
        if bounce is not None:
            await self._require_space(bounce, deliveries)
        await self._has_room()
        future = self._loop.create_future()
        job = Bounce(future, owed, bounce, deliveries, events) if bounce else Undeliverable(future, owed, events)
        await self._commits.put(job)

    async def warn(self, late: Mapping[int, Failure | None]) -> None:
        """These deliveries were late, and their senders are owed a word of it."""
        await self._put(Warn(self._loop.create_future(), late))

    async def record(self, events: Sequence[Event]) -> None:
        """Keep events that change nothing else."""
        if events:
            await self._put(SpoolJob(self._loop.create_future(), events))

    async def acknowledge(self, through: int) -> None:
        """Let outbox rows go with the next transaction that comes along, within moments; nobody waits for it."""
        self._check_open()
        self._acknowledging.through(through)

    @property
    def queued_jobs(self) -> int:
        """How many changes wait for the disk; commits.MAX_QUEUED_JOBS at most."""
        return self._commits.queued

    # ---- what is due

    async def pull(self, domain: str, now: float, limit: int, max_bytes: int, lowest: int = BULK) -> port.Pulled:
        """Up to *limit* due deliveries of a domain."""
        request = await self._pull(Request(domain, now, limit, max_bytes, lowest))
        return port.Pulled(request.deliveries, request.next_due)

    async def pull_expired(self, now: float, limit: int) -> tuple[Delivery, ...]:
        """Up to *limit* deliveries whose life has ended, with bodies of at most MAX_EXPIRED_BYTES together."""
        return (await self._pull(Request(None, now, limit, MAX_EXPIRED_BYTES))).deliveries

    async def take(self, chosen: Mapping[int, str]) -> port.Taken:
        """Those of these rows that are not out; then they are."""
        request = await self._pull(Request(None, self._clock.time(), len(chosen), NO_LIMIT, chosen=chosen))
        busy = sum(row in self._ledger.out for row in chosen) - len(request.deliveries)
        return port.Taken(request.deliveries, busy)

    async def pull_reports(self, now: float, limit: int) -> Sequence[port.OwedReport]:
        """Up to *limit* reports that are due, with header fields of at most reports.MAX_BYTES together."""
        while True:
            reports, damaged = await self._ask(self._listing_thread, self._reports.due, now, limit)
            moved = damaged and await self._quarantine(self._clock.time(), damaged)
            if reports or not moved:
                return reports

    async def pull_late(self, now: float, limit: int) -> Mapping[int, Delivery | None]:
        """Up to *limit* deliveries by row, that are late."""
        return await self._ask(self._listing_thread, self._late.due, now, limit)

    def release(self, rows: Collection[int]) -> None:
        """These are not out any more, and as due as they were."""
        self._pulls.leave([(row, AS_IT_WAS) for row in rows])

    # ---- what is there

    async def domains(self) -> Sequence[str]:
        """The domains that have deliveries."""
        return await self._ask(self._listing_thread, self._listing.domains)

    async def backlog(self, domain: str | None = None) -> Sequence[port.Backlog]:
        """How much there is."""
        return await self._ask(self._listing_thread, self._listing.backlog, domain)

    async def owed(self) -> int:
        """How many reports are owed to senders."""
        return await self._ask(self._listing_thread, self._listing.owed)

    async def browse(self, selection: port.Selection, after: int, limit: int) -> Sequence[tuple[int, port.Entry]]:
        """Up to *limit* entries by row, beginning past row *after*."""
        found: list[tuple[int, port.Entry]] = []
        at: int | None = after
        # A question a window: others are answered in between.
        while at is not None and len(found) < limit:
            more, at = await self._ask(self._listing_thread, self._listing.browse, selection, at, limit - len(found))
            found += more
        return [(row, self._mark(row, entry)) for row, entry in found]

    async def tally(self, selection: port.Selection, after: int, through: int) -> port.TallyPage:
        """Count part of what is selected."""
        return await self._ask(self._listing_thread, self._listing.tally, selection, after, through)

    async def answers(self, domain: str) -> Mapping[str, int]:
        """How many of a domain's deliveries had which last answer."""
        found: Counter[str] = Counter()
        at: int | None = 0
        while at is not None:
            more, at = await self._ask(self._listing_thread, self._listing.answers, domain, at)
            found.update(more)
        return found

    async def choose(self, selection: port.Selection, after: int, through: int, limit: int) -> port.Chosen:
        """Rows of part of what is selected."""
        return await self._ask(self._listing_thread, self._listing.choose, selection, after, through, limit)

    async def ids(self, after: int, limit: int, now: float) -> port.IdPage | None:
        """Ids of up to *limit* deliveries past row *after*."""
        return await self._ask(self._listing_thread, self._listing.ids, after, limit, now)

    async def find(self, id: str) -> Sequence[port.Entry]:  # noqa: A002 - the port's
        """The delivery of that id, or all deliveries of that batch id."""
        found = await self._ask(self._listing_thread, self._listing.find, id)
        return [self._mark(row, entry) for row, entry in found]

    async def is_empty(self) -> bool:
        """Whether nothing at all is in the shard, nor wanted of what was."""
        since = self._clock.time() - self.tracker.retention
        return await self._ask(self._listing_thread, self._listing.is_empty, since)

    async def quarantined(self) -> int:
        """How many rows are in quarantine."""
        return await self._ask(self._listing_thread, self._listing.quarantined)

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        """Up to *limit* rows with a sequence past *after*, in order."""
        while True:
            rows, damaged = await self._ask(self._pull_thread, self._log.outbox, after, limit)
            moved = damaged and await self._quarantine(self._clock.time(), damaged)
            if rows or not moved:
                return rows

    # ---- the rest

    def on_damage(self, listener: Callable[[], None]) -> None:
        """Call *listener* when pages of the file turn out to be damaged: what is read and kept from now on is no more
        than luck, and opening the spool again salvages it (salvage.py)."""
        self._damage_listeners.append(listener)

    def on_due(self, listener: Callable[[Mapping[str, port.Arrived]], None]) -> None:
        """Call *listener* with what a commit brought, by domain."""
        self._handover.listeners.append(listener)

    def on_events(self, listener: Callable[[], None]) -> None:
        """Call *listener* when a commit brought rows into the outbox."""
        self._commits.event_listeners.append(listener)

    async def close(self) -> None:
        """Finish what was begun, bring everything into one file, and let go of the lock."""
        if self._closed:
            return
        self._closed = True
        self._acknowledging.close()
        self._commits.hand_on()
        await self._pulls.settle_down()
        await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        self._pull_thread.shutdown()
        self._listing_thread.shutdown()
        self._reader.close()
        self._log.close()
        self._listing.close()
        self._commits.close()
        if self._lock is not None:
            self._lock.release()

    # ---- small things

    async def _require_space(self, message: Message, deliveries: Sequence[NewDelivery]) -> None:
        size = len(message.header_block) + sum([len(part.content) for part in message.parts])
        try:
            self._space.require(self._loop.time(), size, len(deliveries))
        except SpoolFull:
            # The room of what was delivered is in our own file, which does not shrink: statvfs(3) knows nothing of it.
            reusable = await self._ask(self._listing_thread, self._listing.reusable)
            self._space.require(self._loop.time(), size, len(deliveries), reusable)

    async def _put(self, job: SpoolJob) -> None:
        await self._has_room()
        await self._commits.put(job)

    async def _has_room(self) -> None:
        await self._commits.room()
        self._check_open()

    async def _pull(self, request: Request) -> Request:
        self._check_open()
        await self._pulls.ask(request)
        try:
            if request.damaged and await self._quarantine(request.now, request.damaged):
                self._pulls.leave([(row.key, GONE) for row in request.damaged if row.source == "delivery"])
        except asyncio.CancelledError:
            self.release([delivery.row for delivery in request.deliveries])
            raise
        if request.error is not None:
            if isinstance(request.error, apsw.CorruptError):
                self._note_damage()
            raise _cannot_read(request.error) from request.error
        return request

    async def _quarantine(self, time: float, damaged: Sequence[Damaged]) -> bool:
        """Move rows to quarantine with an event each; False when that failed, and they stay where they are."""
        try:
            names = await self._ask(self._listing_thread, self._listing.name_damaged, damaged)
            events = quarantine_events(time, damaged, names)
            await self._has_room()
            await self._commits.put(Quarantine(self._loop.create_future(), time, damaged, events))
        except SpoolError:
            return False
        return True

    async def _ask(self, thread: ThreadPoolExecutor, question: Callable[..., _T], *args: object) -> _T:
        self._check_open()
        try:
            return await self._loop.run_in_executor(thread, partial(question, *args))
        except apsw.Error as error:
            if isinstance(error, apsw.CorruptError):
                self._note_damage()
            raise _cannot_read(error) from error

    def _note_damage(self) -> None:
        if self._damaged:
            return
        self._damaged = True
        with suppress(SpoolUnusable):  # then the next that opens it meets the damage again
            mark(self._file)
        for listener in self._damage_listeners:
            listener()

    def _mark(self, row: int, entry: port.Entry) -> port.Entry:
        return msgspec.structs.replace(entry, active=True) if row in self._ledger.out else entry

    def _check_open(self) -> None:
        if self._closed:
            raise SpoolError("the spool is closed")


def _cannot_read(error: Exception) -> SpoolError:
    if isinstance(error, apsw.Error):
        return SpoolError(f"cannot read the spool: {error}; check the disk")
    return SpoolError(f"cannot read the spool: {error!r}")
