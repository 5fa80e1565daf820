"""The events that webhooks are still owed, ``webhooks.sqlite``: one for the machine.

It takes them from the outboxes as the event log reads those, a transaction for as many as came in a tenth of a second
(mcmt/eventlog/saving.py). With them it keeps how far each shard was read, so an event that is read again after a crash
is there once. So whatever a receiver does, it holds up neither the logs nor the outboxes.

The batch that is being sent is marked before it is, so that it is sent again as it was, under the same id, over any
crash. Numbers are never used twice, also where the file was made anew.

Rules: one process has it, the one that writes the logs; blocking, from any thread, and a lock is held for as long as a
transaction takes; a SpoolError changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from mcmt.errors import SpoolError
from mcmt.spool.schema import unusable, write_anew
from mcmt.spool.store_file import StoreFile

FILE: Final = "webhooks.sqlite"
VERSION: Final = 1
APPLICATION: Final = 0x6D637768  # "mcwh", for file(1)
MAX_BYTES: Final = 1024**2
"""Bytes of events in a batch; one that is larger is a batch of its own."""
_CACHE = 2 * 1024  # KiB
_TABLES = """
CREATE TABLE webhook (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    sending INTEGER NOT NULL DEFAULT 0,     -- number of the last event of the batch being sent; 0: none is
    events INTEGER NOT NULL DEFAULT 0,      -- that are here
    bytes INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,        -- taken by the receiver, ever
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook INTEGER NOT NULL,
    time REAL NOT NULL,                     -- seconds since the epoch
    line BLOB NOT NULL                      -- JSON
) STRICT;
CREATE INDEX event_webhook ON event (webhook, number);
-- How far each shard's outbox was read.
CREATE TABLE progress (shard TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
# A file that is made anew goes on past the numbers of the old one: no webhook has a million events a second.
_FIRST_NUMBER = "INSERT INTO sqlite_sequence VALUES ('event', {});"
_ADD = "INSERT INTO event (webhook, time, line) VALUES (?, ?, ?)"
_PROGRESS = "INSERT INTO progress VALUES (?1, ?2) ON CONFLICT DO UPDATE SET sequence = ?2"
_SIZES = "SELECT number, length(line) FROM event WHERE webhook = ? ORDER BY number"
_THROUGH = "SELECT count(*), ifnull(sum(length(line)), 0) FROM event WHERE webhook = ? AND number <= ?"
_DELETE = "DELETE FROM event WHERE webhook = ? AND number <= ?"
_BATCH = "SELECT number, time, line FROM event WHERE webhook = ? AND number <= ? ORDER BY number LIMIT ?"
_ORPHANS = "SELECT DISTINCT webhook FROM event WHERE webhook NOT IN (SELECT id FROM webhook)"
_DELETE_PAGE = "DELETE FROM event WHERE number IN (SELECT number FROM event WHERE webhook = ? LIMIT ?)"
_PAGE = 5000
_STATE = "UPDATE webhook SET sending = ?, events = ?, bytes = ?, sent = ?, dropped = ? WHERE id = ?"
_ANY = 2**62
_T = TypeVar("_T")


class Owed(msgspec.Struct, frozen=True):
    """One event for one webhook."""

    webhook: str
    time: float
    line: bytes


class Batch(msgspec.Struct, frozen=True):
    """Events of one webhook that follow each other, in order; at least one."""

    first: int
    """Number of the first of them."""
    last: int
    oldest: float
    """When the first of them happened, seconds since the epoch."""
    newest: float
    lines: tuple[bytes, ...]


class Standing(msgspec.Struct, frozen=True):
    """How one webhook fares, as it is on disk."""

    id: int
    sending: int = 0
    """Number of the last event of the batch that is being sent; 0: none is."""
    events: int = 0
    """That it is owed."""
    bytes: int = 0
    sent: int = 0
    """That its receiver has taken, ever."""
    dropped: int = 0
    """That were dropped past the limit, ever."""


class StoredWebhookEvents:
    """The file of one spool folder."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._file = connection.filename
        self._turn = threading.Lock()
        columns = ", ".join(["name", *Standing.__struct_fields__])
        rows = connection.execute(f"SELECT {columns} FROM webhook")  # noqa: S608 - our own words
        self._standing: dict[str, Standing] = {name: Standing(*values) for name, *values in rows}
        self._floor: dict[str, int] = {}
        orphans: Sequence[Any] = connection.execute(_ORPHANS).fetchall()
        self._gone: list[int] = [webhook for (webhook,) in orphans]

    @classmethod
    def open(cls, folder: Path, created: float) -> StoredWebhookEvents:
        """Open the file in a spool folder, made if there is none. *created*: the time now. Raises SpoolUnusable."""
        tables = _TABLES + _FIRST_NUMBER.format(int(created * 1e6))
        connection = StoreFile(FILE, APPLICATION, VERSION, tables, _CACHE).open(folder, write_anew)
        try:
            return cls(connection)
        except apsw.Error as error:
            raise unusable(folder / FILE, error) from error

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def progress(self) -> dict[str, int]:
        """By shard, the sequence of the last row whose events were added."""

        def work() -> dict[str, int]:
            rows: Sequence[Any] = self._connection.execute("SELECT shard, sequence FROM progress").fetchall()
            return dict(rows)

        return self._run(work)

    def name(self, webhooks: Collection[str]) -> Mapping[str, int]:
        """These are the webhooks from now on. By name, how many events those had that are no more: ``sweep`` them."""

        def work() -> Mapping[str, int]:
            gone = {name: one for name, one in self._standing.items() if name not in webhooks}
            new: dict[str, Standing] = {}
            with self._connection:
                for one in gone.values():
                    self._connection.execute("DELETE FROM webhook WHERE id = ?", (one.id,))
                for name in webhooks:
                    if name not in self._standing:
                        self._connection.execute("INSERT INTO webhook (name) VALUES (?)", (name,))
                        new[name] = Standing(self._connection.last_insert_rowid())
            self._standing = {name: one for name, one in (self._standing | new).items() if name not in gone}
            self._gone += [one.id for one in gone.values()]
            return {name: one.events for name, one in gone.items() if one.events}

        return self._run(work)

    def sweep(self) -> bool:
        """Delete a page of the events whose webhook is no more, so that nobody waits long; whether that was all."""

        def work() -> bool:
            if self._gone:
                with self._connection:
                    self._connection.execute(_DELETE_PAGE, (self._gone[-1], _PAGE))
                    if self._connection.changes() < _PAGE:
                        self._gone.pop()
            return not self._gone

        return self._run(work)

    def standing(self, webhook: str) -> Standing:
        """How that webhook fares. Never waits."""
        return self._standing.get(webhook) or Standing(0)

    def floor(self, webhook: str) -> int:
        """Number of the last event of that webhook that was dropped since the file was opened. Never waits."""
        return self._floor.get(webhook, 0)

    def add(self, owed: Sequence[Owed], progress: Mapping[str, int], limits: Mapping[str, int]) -> Mapping[str, int]:
        """Keep these, in order, and how far the shards were read, in one transaction that is on disk then.

        What is for a webhook that there is not goes. *limits*: bytes by webhook; where there are more, the oldest are
        dropped. Returns by webhook how many were.
        """

        def work() -> Mapping[str, int]:
            changed: dict[str, Standing] = {}
            floors: dict[str, int] = {}
            known = [one for one in owed if one.webhook in self._standing]
            with self._connection:
                rows = [(self._standing[one.webhook].id, one.time, one.line) for one in known]
                self._connection.executemany(_ADD, rows)
                for one in known:
                    is_now = changed.get(one.webhook) or self._standing[one.webhook]
                    changed[one.webhook] = msgspec.structs.replace(
                        is_now, events=is_now.events + 1, bytes=is_now.bytes + len(one.line)
                    )
                for name, is_now in tuple(changed.items()):
                    if is_now.bytes > limits.get(name, _ANY):
                        changed[name], floors[name] = self._drop(is_now, limits[name])
                for is_now in changed.values():
                    self._write(is_now)
                self._connection.executemany(_PROGRESS, progress.items())
            dropped = {name: changed[name].dropped - self._standing[name].dropped for name in floors}
            self._standing = self._standing | changed
            self._floor |= floors
            return dropped

        return self._run(work)

    def next(self, webhook: str, taken: int, size: int) -> Batch | None:
        """The receiver has taken what is up to the number *taken*; the next batch, of *size* events at most, marked as
        being sent, in one transaction. The one that is marked already comes again as it was. *size* 0: none."""

        def work() -> Batch | None:
            is_now = self._standing.get(webhook)
            if is_now is None:
                return None
            before, batch = is_now, None
            with self._connection:
                if taken:
                    is_now = self._let_go(is_now, taken)
                    is_now = msgspec.structs.replace(is_now, sent=is_now.sent + before.events - is_now.events)
                if size:
                    batch = self._batch(is_now, size)
                    is_now = msgspec.structs.replace(is_now, sending=0 if batch is None else batch.last)
                if is_now != before:
                    self._write(is_now)
            self._standing = self._standing | {webhook: is_now}
            return batch

        return self._run(work)

    def again(self, webhook: str, size: int) -> Batch | None:
        """In place of the batch that is being sent, one of *size* events at most."""

        def work() -> None:
            if (before := self._standing.get(webhook)) is None:
                return
            is_now = msgspec.structs.replace(before, sending=0)
            with self._connection:
                self._write(is_now)
            self._standing = self._standing | {webhook: is_now}

        self._run(work)
        return self.next(webhook, 0, size)

    def _batch(self, is_now: Standing, size: int) -> Batch | None:
        through, most = (is_now.sending, _ANY) if is_now.sending else (_ANY, size)
        rows: list[tuple[int, float, bytes]] = []
        held = 0
        for row in self._connection.execute(_BATCH, (is_now.id, through, most)):
            held += len(row[2])
            if rows and held > MAX_BYTES and not is_now.sending:
                break
            rows.append(row)
        if not rows:
            return None
        return Batch(rows[0][0], rows[-1][0], rows[0][1], rows[-1][1], tuple(row[2] for row in rows))

    def _drop(self, is_now: Standing, limit: int) -> tuple[Standing, int]:
        over, through = is_now.bytes - limit, 0
        sizes: Iterable[Any] = self._connection.execute(_SIZES, (is_now.id,))
        for number, size in sizes:
            if over <= 0:
                break
            over, through = over - size, number
        after = self._let_go(is_now, through)
        return msgspec.structs.replace(after, dropped=is_now.dropped + is_now.events - after.events), through

    def _let_go(self, is_now: Standing, through: int) -> Standing:
        counts: Sequence[Any] = self._connection.execute(_THROUGH, (is_now.id, through)).fetchall()
        events, size = counts[0]
        self._connection.execute(_DELETE, (is_now.id, through))
        return msgspec.structs.replace(is_now, sending=0, events=is_now.events - events, bytes=is_now.bytes - size)

    def _write(self, is_now: Standing) -> None:
        values = (is_now.sending, is_now.events, is_now.bytes, is_now.sent, is_now.dropped, is_now.id)
        self._connection.execute(_STATE, values)

    def _run(self, work: Callable[[], _T]) -> _T:
        try:
            with self._turn:
                return work()
        except apsw.Error as error:
            raise SpoolError(f"cannot use {self._file}: {error}; check the disk and its free space") from error


def names_of(owed: Iterable[Owed]) -> frozenset[str]:
    """The webhooks that these are for."""
    return frozenset(one.webhook for one in owed)
