"""One transaction: what its jobs want is gathered first, then done in a few statements.

Every call into SQLite gives up the interpreter lock and has to win it back, which beside a busy event loop can
take a switch interval (5 ms). So the number of calls is kept from growing with the number of messages: rows go
in and change by multi-row VALUES and go out by arrays of ids. What that gains is not shown: beside a loop that
never idles, 100 tasks accepting, this, one call a row and executemany each ran at anything from 200 to 37,000
messages a second from run to run. Alone, executemany took 1.7 us a row and this 2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from mcmt.errors import SpoolError
from mcmt.message.event import TRACKED, Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.owed import Owed, finish_messages
from mcmt.spool.rows import (
    due_at,
    encode_data,
    encode_envelope,
    encode_events,
    encode_head,
    encode_sender,
    first_due,
    microseconds,
)
from mcmt.spool.schema import COLUMNS, ids
from mcmt.spool.statements import ask_rows, execute_rows
from mcmt.spool.tracking import Track, Tracks

# One outbox row is read and written whole, so it must stay small beside memory.
EVENTS_PER_ROW = 256
_INSERT = {
    table: (f"INSERT INTO {table} VALUES {{rows}}", len(COLUMNS[table]))  # noqa: S608 - our own words
    for table in ("message", "part", "delivery")
}
# A message's deliveries of one domain, one due time and one end of life, a page at a time: 10,000 of them took 18 ms of
# CPU when each was encoded and bound by itself, and take 13, of which 2 hold the interpreter lock and none is longer
# than 0.2.
_DELIVERIES = "INSERT INTO delivery SELECT ?1 + key, ?2, ?3, ?4, ?5, 0, value, '', ?7, NULL FROM json_each(?6)"
_MANY = 256
# SQLite walks the VALUES and looks each row up by its key.
_RESCHEDULE = (
    "UPDATE delivery SET due = new.column2, attempts = new.column3, last = new.column4"
    " FROM (VALUES {rows}) AS new WHERE row = new.column1",
    4,
)
_MOVE = (
    "UPDATE delivery SET due = new.column2, domain = new.column3 FROM (VALUES {rows}) AS new WHERE row = new.column1",
    3,
)
_DELAY = ("INSERT INTO delay VALUES {rows}", 2)
_COUNT_DOWN = (
    "UPDATE message SET pending = pending - new.column2"
    " FROM (VALUES {rows}) AS new WHERE id = new.column1 AND pending >= new.column2",
    2,
)
# By the partial index: in one UPDATE, SQLite walked the whole index from four VALUES on, half a second a transaction
# where 300,000 deliveries waited. What cannot be read is quarantine's.
_REPLACED = (
    "SELECT old.row, old.domain, new.column4 FROM (VALUES {rows}) AS new"
    " CROSS JOIN delivery AS old INDEXED BY delivery_collapse"
    " ON old.domain = new.column1 AND old.collapse = new.column2 AND old.row < new.column3 AND json_valid(old.data)",
    4,
)
# The mark is ``superseded`` of the data (rows.py).
_MARK = (
    "UPDATE delivery SET collapse = NULL, data = json_set(data, '$[6]', new.column2)"
    " FROM (VALUES {rows}) AS new WHERE row = new.column1",
    2,
)
_FINISHED = "SELECT id, parts FROM message WHERE id IN carray(?1) AND pending = 0"
TEXT = frozenset({"batch_id", "sender", "head", "domain", "data", "last", "return_path", "source", "reason"})
"""Columns that are text."""


_KEYS = """
SELECT
    max(ifnull((SELECT id + parts FROM message ORDER BY id DESC LIMIT 1), 1),
        ifnull((SELECT max(id) + 1 FROM part), 1),
        ifnull((SELECT max(key) + 1 FROM quarantine WHERE source IN ('message', 'part')), 1)),
    max(ifnull((SELECT row + deliveries FROM message ORDER BY id DESC LIMIT 1), 1),
        ifnull((SELECT max(row) + 1 FROM delivery), 1),
        ifnull((SELECT max(row) + 1 FROM delay), 1),
        ifnull((SELECT max(key) + 1 FROM quarantine WHERE source = 'delivery'), 1)),
    ifnull((SELECT max(id) + 1 FROM failure), 1)
"""


class Keys:
    """The keys to be given next: to a message, whose parts take the ones that follow, to a delivery, to a failure.

    A key is never given twice while the spool is open (cursors rest on it), nor while anything is left of the
    message that it was given with.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.message: int
        self.row: int
        self.failure: int
        self.message, self.row, self.failure = connection.execute(_KEYS).get


class Damaged(msgspec.Struct, frozen=True):
    """A row that cannot be read, and why."""

    source: str
    key: int
    reason: str
    domain: str = ""
    """Of a delivery, where it is known."""


class Superseded(NamedTuple):
    """A delivery that a later message has replaced."""

    row: int
    domain: str
    by: str
    """Batch id."""


class Transaction:
    """What a number of jobs want of the database. A job stages; nothing is done until ``apply``."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._rows: dict[str, list[Any]] = {"message": [], "part": [], "delivery": []}
        self._many: list[tuple[int, int, Sequence[NewDelivery], Sequence[int]]] = []
        self._finished: list[int] = []
        self._rescheduled: list[Any] = []
        self._moved: list[Any] = []
        self._delays: list[Any] = []
        self._superseding: list[Any] = []
        self._superseded: list[Superseded] = []
        self._unwatched: list[int] = []
        self._messages: list[int] = []
        self._parts: list[int] = []
        self._countdown: dict[int, int] = {}
        self._owed = Owed()
        self._tracks = Tracks()
        self._events: list[Event] = []
        self._through = 0
        self._damaged: list[tuple[float, Damaged]] = []

    def insert_message(self, message: Message, deliveries: Sequence[NewDelivery]) -> tuple[int, int]:
        """A message with its deliveries. Returns its key and that of its first delivery."""
        keys, parts, count = self._keys, message.parts, len(deliveries)
        key, row = keys.message, keys.row
        keys.message = key + max(1, len(parts))
        keys.row = row + count
        self._rows["message"] += (
            *(key, message.batch_id, row, count, count, len(parts)),
            *(encode_sender(message), encode_envelope(message)),
        )
        if not count:
            self._messages.append(key)  # nothing of it is pending: its reports are due
        columns = self._rows["part"]
        for part_key, part in enumerate(parts, key):
            columns += (part_key, encode_head(part), part.content)
        if (deliveries and deliveries[0].asked is not None) or message.envelope.asked:
            for place, one in enumerate(deliveries, row):
                if one.warn:
                    self._delays += (place, due_at(one.warn))
        sizes = [len(part.content) for part in parts]
        if count > _MANY:
            self._many.append((row, key, deliveries, sizes))
        else:
            self._rows["delivery"] += _columns(row, key, deliveries, sizes)
        return key, row

    def finish(self, row: int, message: int, deliveries: int, parts: int) -> None:
        """A delivery goes, and its message with the last of them."""
        self._finished.append(row)
        if deliveries == 1:
            self._messages.append(message)
            self._parts += range(message, message + parts)
        else:
            self._countdown[message] = self._countdown.get(message, 0) + 1

    def reschedule(self, row: int, due: int, attempts: int, last: str) -> None:
        """A delivery is due again, at *due* microseconds."""
        self._rescheduled += (row, due, attempts, last)

    def move(self, row: int, due: int, domain: str) -> None:
        """A delivery is due at *due* microseconds, and of *domain*."""
        self._moved += (row, due, domain)

    def supersede(self, first: int, batch_id: str, deliveries: Sequence[NewDelivery], found: list[Superseded]) -> None:
        """Deliveries of a message, whose rows begin with *first*, replace earlier ones; those come into *found*, with
        what others of the transaction replace."""
        for one in deliveries:
            self._superseding += (one.domain, one.collapse, first, batch_id)
        self._superseded = found

    def fail(self, message: int, row: int, failure: Failure) -> None:
        """A failure to report, of a delivery that goes, or of a recipient without one (row 0)."""
        keys = self._keys
        self._owed.fail(keys.failure, message, row, failure)
        keys.failure += 1

    def unwatch(self, row: int) -> None:
        """A delivery goes that cannot be late any more."""
        self._unwatched.append(row)

    def warn(self, row: int, failure: Failure | None) -> None:
        """A delivery is late: what its sender is told of that, if it is still there then."""
        keys = self._keys
        self._owed.warn(keys.failure, row, failure)
        keys.failure += 1

    def tell(self, report: int, through: int, count: int) -> None:
        """The *count* failures of a report up to *through* are told."""
        self._owed.tell(report, through, count)

    def record(self, events: Sequence[Event]) -> None:
        """Events for the outbox."""
        self._events += events
        for event in events:
            if event.protocol in TRACKED:
                self._tracks.note(event)

    def track(self, track: Track) -> None:
        """A message whose sender may ask what became of it."""
        self._tracks.add(track)

    def forget(self, keys: Sequence[str]) -> None:
        """Keys that no message comes under again."""
        self._tracks.forget(keys)

    def acknowledge(self, through: int) -> None:
        """Outbox rows go, up to a sequence."""
        self._through = max(self._through, through)

    def quarantine(self, time: float, damaged: Sequence[Damaged]) -> None:
        """Rows move to quarantine."""
        self._damaged += [(time, row) for row in damaged]

    def apply(self, connection: apsw.Connection) -> None:
        """Do it. Raises apsw.Error, or SpoolError where a row was not what the job took it for."""
        for table, columns in self._rows.items():
            execute_rows(connection, _INSERT[table], columns)
        for many in self._many:
            _insert_many(connection, *many)
        execute_rows(connection, _DELAY, self._delays)
        self._owed.insert(connection)
        _delete(connection, "delay", "row", self._unwatched)
        if self._rescheduled:
            before = connection.total_changes()
            execute_rows(connection, _RESCHEDULE, self._rescheduled)
            _expect(connection, before, len(self._rescheduled) // 4)
        if self._moved:
            before = connection.total_changes()
            execute_rows(connection, _MOVE, self._moved)
            _expect(connection, before, len(self._moved) // 3)
        if self._finished:
            before = connection.total_changes()
            _delete(connection, "delivery", "row", self._finished)
            _expect(connection, before, len(self._finished))
        if self._superseding:
            # Last, so that what is finished in the same transaction is not found any more.
            self._supersede(connection)
        if self._countdown:
            self._count_down(connection)
        self._owed.let_go(connection)
        _delete(connection, "message", "id", finish_messages(connection, self._messages))
        _delete(connection, "part", "id", self._parts)
        self._tracks.apply(connection)
        for time, damaged in self._damaged:
            _move(connection, time, damaged)
        for start in range(0, len(self._events), EVENTS_PER_ROW):
            blob = encode_events(self._events[start : start + EVENTS_PER_ROW])
            connection.execute("INSERT INTO outbox (events) VALUES (?)", (blob,))
        if self._through:
            connection.execute("DELETE FROM outbox WHERE sequence <= ?", (self._through,))

    def _supersede(self, connection: apsw.Connection) -> None:
        found: dict[int, Superseded] = {}
        for row in ask_rows(connection, _REPLACED, self._superseding):
            found.setdefault(row[0], Superseded(*row))  # by the first of those in this transaction
        execute_rows(connection, _MARK, [value for row, _, by in found.values() for value in (row, by)])
        self._superseded += found.values()

    def _count_down(self, connection: apsw.Connection) -> None:
        execute_rows(connection, _COUNT_DOWN, [value for item in self._countdown.items() for value in item])
        for message, parts in connection.execute(_FINISHED, (ids(self._countdown),)):
            self._messages.append(message)
            self._parts += range(message, message + parts)


def _insert_many(
    connection: apsw.Connection, row: int, message: int, deliveries: Sequence[NewDelivery], sizes: Sequence[int]
) -> None:
    for start in range(0, len(deliveries), _MANY):
        page = deliveries[start : start + _MANY]
        first = page[0]
        if not first.collapse and len({(one.domain, one.due, one.expires, one.priority) for one in page}) == 1:
            times = first_due(first), microseconds(first.expires)
            data = encode_data(page, sizes)
            connection.execute(_DELIVERIES, (row + start, message, first.domain, *times, data, first.priority))
        else:
            execute_rows(connection, _INSERT["delivery"], _columns(row + start, message, page, sizes))


def _columns(row: int, message: int, deliveries: Sequence[NewDelivery], sizes: Sequence[int]) -> list[Any]:
    columns: list[Any] = []
    for key, one in enumerate(deliveries, row):
        data = encode_data((one,), sizes)[1:-1]
        columns += (key, message, one.domain, due_at(one.due) if one.due else 0, microseconds(one.expires), 0, data, "")
        columns += (one.priority, one.collapse or None)
    return columns


def _delete(connection: apsw.Connection, table: str, key: str, keys: list[int]) -> None:
    if keys:
        connection.execute(f"DELETE FROM {table} WHERE {key} IN carray(?1)", (ids(keys),))  # noqa: S608 - our own words


def _expect(connection: apsw.Connection, before: int, count: int) -> None:
    if connection.total_changes() - before != count:
        raise SpoolError("a delivery to settle is not in the spool: it was settled twice")


def _move(connection: apsw.Connection, time: float, damaged: Damaged) -> None:
    # Values are never read as what they should be: text may not be UTF-8, so it goes through as bytes.
    table, columns = damaged.source, COLUMNS[damaged.source]
    values = " || ',' || ".join(
        f"'CAST(' || quote(CAST({name} AS BLOB)) || ' AS TEXT)'" if name in TEXT else f"quote({name})"
        for name in columns
    )
    connection.execute(
        "INSERT INTO quarantine (time, source, key, reason, statement)"  # noqa: S608 - our own words
        f" SELECT ?1, '{table}', ?2, ?3, CAST('INSERT INTO {table} VALUES (' || {values} || ');' AS BLOB)"
        f" FROM {table} WHERE {columns[0]} = ?2",
        (time, damaged.key, damaged.reason),
    )
    connection.execute(f"DELETE FROM {table} WHERE {columns[0]} = ?", (damaged.key,))  # noqa: S608 - our own words
