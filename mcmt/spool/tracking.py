"""What is kept of messages whose senders may ask what became of them: a row for the message, one for each end.

Rules: the row of a message is part of the transaction that accepts it, and carries the key that its sender gave, so
that the message is there exactly when its key is; the row of an end is part of the transaction that makes it true.
Both stay as long as anything of the message is pending, and then for the time that they are wanted; what is older goes
a few rows at a time, with the transactions that bring new ones. Other messages cost nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from mcmt.message.event import Event, Kind
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.rows import microseconds, seconds
from mcmt.spool.standing import Ended, Known, Once
from mcmt.spool.statements import execute_rows

TABLES = """
CREATE TABLE tracked (
    batch_id TEXT PRIMARY KEY,
    key TEXT UNIQUE,                -- NULL: its sender gave none
    fingerprint BLOB NOT NULL,      -- of what was sent under the key
    sender TEXT NOT NULL,           -- who may ask
    deliveries INTEGER NOT NULL,
    received INTEGER NOT NULL,      -- microseconds since the epoch
    changed INTEGER NOT NULL        -- when it was received, or the last of its deliveries known to have ended did
) STRICT;
CREATE INDEX tracked_changed ON tracked (changed);
CREATE TABLE ended (
    batch_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    data TEXT NOT NULL,             -- JSON: mcmt.spool.standing.Ended
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
"""
PRUNE = 20
"""Messages looked at for each one that comes."""

_TRACK = "INSERT INTO tracked VALUES (?, ?, ?, ?, ?, ?, ?)"
_END = ("INSERT OR IGNORE INTO ended VALUES {rows}", 3)
_TOUCH = "UPDATE tracked SET changed = ?1 WHERE changed < ?1 AND batch_id IN (SELECT value FROM json_each(?2))"
_OLD = (
    "SELECT batch_id, EXISTS (SELECT 1 FROM message WHERE message.batch_id = tracked.batch_id) FROM tracked"
    " WHERE changed < ? ORDER BY changed LIMIT ?"
)
_FORGET = "DELETE FROM tracked WHERE key IN (SELECT value FROM json_each(?))"
_KEYS = "SELECT key, fingerprint, received FROM tracked WHERE key >= ? AND key < ?"
_KNOWN = "SELECT batch_id, fingerprint, sender, deliveries, received FROM tracked WHERE "
_ENDS = "SELECT data FROM ended WHERE batch_id = ? AND number > ? ORDER BY number LIMIT ?"

_json = msgspec.json.Encoder()
_ended = msgspec.json.Decoder(Ended).decode
_FINAL = frozenset({Kind.DELIVERY, Kind.PERMANENT})


class Track(msgspec.Struct, frozen=True):
    """A message that its sender may ask about."""

    batch_id: str
    key: str | None
    fingerprint: bytes
    sender: str
    deliveries: int
    received: float
    forget: float
    """What last changed before this time is not wanted any more."""

    @classmethod
    def of(
        cls,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        once: Once | None,
        retention: float,
    ) -> Track:
        """*events*: those of the reception, which tell of deliveries that failed with it."""
        return cls(
            message.batch_id,
            once.key if once else None,
            once.fingerprint if once else b"",
            message.envelope.user,
            len(deliveries) + sum([event.kind is Kind.PERMANENT for event in events]),
            message.received,
            message.received - retention,
        )


class Tracks:
    """What the jobs of one transaction want of these tables."""

    def __init__(self) -> None:
        self._new: list[Track] = []
        self._ended: list[Any] = []
        self._batches: set[str] = set()
        self._forgotten: list[str] = []
        self._last = 0.0

    def add(self, track: Track) -> None:
        """One more message."""
        self._new.append(track)

    def note(self, event: Event) -> None:
        """A delivery of such a message has an event: keep it if it is the last one."""
        if event.kind not in _FINAL:
            return
        number = int(event.id.rpartition("-")[2])
        data = Ended(
            number=number,
            recipient=event.recipient,
            token=event.token,
            time=event.time,
            delivered=event.kind is Kind.DELIVERY,
            code=event.code,
            text=event.text,
            remote_id=event.remote_id,
        )
        self._ended += (event.batch_id, number, _json.encode(data).decode())
        self._batches.add(event.batch_id)
        self._last = max(self._last, event.time)

    def forget(self, keys: Sequence[str]) -> None:
        """These keys, and what is known of their messages, are not wanted any more."""
        self._forgotten += keys

    def apply(self, connection: apsw.Connection) -> None:
        """Do it. Raises apsw.Error; ConstraintError where a key is there already."""
        if self._forgotten:
            # First: a key that is let go may be given anew.
            connection.execute(_FORGET, (_json.encode(self._forgotten).decode(),))
        for one in self._new:
            received = microseconds(one.received)
            connection.execute(
                _TRACK, (one.batch_id, one.key, one.fingerprint, one.sender, one.deliveries, received, received)
            )
        if self._ended:
            execute_rows(connection, _END, self._ended)
            connection.execute(_TOUCH, (microseconds(self._last), _json.encode(list(self._batches)).decode()))
        if self._new:
            _prune(connection, self._new[-1], PRUNE * len(self._new))


def _prune(connection: apsw.Connection, newest: Track, limit: int) -> None:
    old = connection.execute(_OLD, (microseconds(newest.forget), limit)).fetchall()
    if not old:
        return
    pending = _json.encode([batch for batch, waits in old if waits]).decode()
    done = _json.encode([batch for batch, waits in old if not waits]).decode()
    # Looked at again when they would be old once more.
    connection.execute(
        "UPDATE tracked SET changed = ? WHERE batch_id IN (SELECT value FROM json_each(?))",
        (microseconds(newest.received), pending),
    )
    for table in ("ended", "tracked"):
        connection.execute(f"DELETE FROM {table} WHERE batch_id IN (SELECT value FROM json_each(?))", (done,))  # noqa: S608 - our own words


def known_by_key(connection: apsw.Connection, key: str) -> Known | None:
    """The message that was accepted under *key*."""
    return _known(connection, "key = ?", key)


def keys(connection: apsw.Connection, prefix: str) -> dict[Once, float]:
    """The keys that begin with *prefix*, and when each one's message was received."""
    rows = connection.execute(_KEYS, (prefix, prefix + chr(0x10FFFF)))
    return {Once(key, fingerprint): seconds(received) for key, fingerprint, received in rows}


def known(connection: apsw.Connection, batch_id: str) -> Known | None:
    """What is kept of a message."""
    return _known(connection, "batch_id = ?", batch_id)


def ends(connection: apsw.Connection, batch_id: str, after: int, limit: int) -> list[Ended]:
    """Up to *limit* deliveries of a message that have ended, with numbers past *after*, in order."""
    return [_ended(data) for (data,) in connection.execute(_ENDS, (batch_id, after, limit))]


def _known(connection: apsw.Connection, which: str, value: str) -> Known | None:
    row = connection.execute(_KNOWN + which, (value,)).get
    if row is None:
        return None
    batch_id, fingerprint, sender, deliveries, received = row
    return Known(batch_id, fingerprint, sender, deliveries, seconds(received))
