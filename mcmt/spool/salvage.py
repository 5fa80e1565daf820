"""A shard file with damaged pages: what can be read of it, in a new file; the old one is set aside.

SQLite refuses whatever touches a page that makes no sense, so one of them can stop a whole shard. Whoever meets such a
refusal marks the file (``suspect``), and when it is opened next its rows are copied, keys and all, around the ones that
cannot be read. The indexes are made anew. Of deliveries, messages and events that are lost, those that something else
still tells of are named: rows of the quarantine, and events for the main log. The damaged file stays beside the new one
for whoever knows better tools, and is never opened again.

Rules: blocking; nothing else has the file open. Until the new file takes its place, in one rename, nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import apsw

from mcmt.errors import SpoolUnusable
from mcmt.message.event import Event, Kind
from mcmt.spool.folder import create_file, sync_folder
from mcmt.spool.rows import encode_events
from mcmt.spool.schema import APPLICATION, COLUMNS, VERSION, open_writer, unusable, write_anew
from mcmt.spool.transaction import EVENTS_PER_ROW, TEXT

UNREADABLE = (apsw.CorruptError, apsw.ConstraintError, apsw.MismatchError)
"""What rows of a damaged page raise when they are copied."""
_SAMPLES = 64
_COLUMNS = {
    **COLUMNS,
    "failure": ("id", "report", "due", "data", "last"),
    "delay": ("row", "due"),
    "quarantine": ("id", "time", "source", "key", "reason", "statement"),
    "tracked": ("rowid", "batch_id", "key", "fingerprint", "sender", "deliveries", "received", "changed"),
}
_KEYS = ("tracked", "key")
"""Text there, and a number in the quarantine."""
# Where the largest key of a table can be read but from its own last page.
_LAST = {
    "message": (
        "SELECT max(id) FROM message INDEXED BY sqlite_autoindex_message_1",
        "SELECT max(message) FROM delivery",
    ),
    "part": ("SELECT max(id + parts) FROM message",),
    "delivery": (
        "SELECT max(row) FROM delivery INDEXED BY delivery_expires",
        "SELECT max(row) FROM delivery INDEXED BY delivery_due",
        "SELECT max(row + deliveries) FROM message",
    ),
    "outbox": ("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'",),
    "quarantine": ("SELECT seq FROM sqlite_sequence WHERE name = 'quarantine'",),
    "report": ("SELECT seq FROM sqlite_sequence WHERE name = 'report'",),
    "failure": ("SELECT max(id) FROM failure INDEXED BY failure_report",),
    "delay": ("SELECT max(row) FROM delay INDEXED BY delay_due",),
    "tracked": ("SELECT max(rowid) FROM tracked INDEXED BY tracked_changed",),
}
_ENDED = "SELECT CAST(batch_id AS BLOB), number, CAST(data AS BLOB) FROM ended"
# Rows that an index knows and the table did not give.
_DELIVERIES = "SELECT row FROM delivery INDEXED BY {}"
_MESSAGES = "SELECT id, CAST(batch_id AS BLOB) FROM message INDEXED BY sqlite_autoindex_message_1"
_OWNER = "SELECT batch_id, row, deliveries FROM message WHERE row <= ?1 ORDER BY row DESC LIMIT 1"
_SET_ASIDE = "INSERT INTO quarantine (time, source, key, reason, statement) VALUES (?1, ?2, ?3, ?4, ?5)"


def suspect(path: Path) -> Path:
    """The file that marks the shard at *path* as damaged."""
    return path.with_name(path.name + ".suspect")


def mark(path: Path) -> None:
    """Have the shard at *path* salvaged when it is opened next. Raises SpoolUnusable."""
    create_file(suspect(path))


def salvage(path: Path, time: float) -> Path:
    """Put a sound file in the place of the shard at *path*. Returns where the damaged one is now.

    *time*: now, for the events and for the names. Raises SpoolUnusable: nothing was changed.
    """
    target = path.with_name(path.name + ".salvage")
    damaged = path.with_name(f"{path.name}.damaged-{int(time)}")
    try:
        for suffix in ("", "-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        _settle(path)
        with closing(open_writer(target, time)) as new, closing(_reading(path)) as old:
            _Salvage(new, old, damaged.name, time).run()
        damaged.unlink(missing_ok=True)
        damaged.hardlink_to(path)
        target.replace(path)
        suspect(path).unlink(missing_ok=True)
        sync_folder(path.parent)
    except apsw.Error as error:
        raise unusable(path, error) from error
    except OSError as error:
        raise SpoolUnusable(f"cannot salvage {path}: {error.strerror}; check rights and free space") from error
    return damaged


def _settle(path: Path) -> None:
    """Bring what is in the WAL into the file, so that the file is all there is."""
    with closing(_reading(path)) as connection:
        found = connection.pragma("application_id"), connection.pragma("user_version")
        if found != (APPLICATION, VERSION):
            raise SpoolUnusable(f"{path} is damaged, and of another schema version; restore it from a backup")
        write_anew(connection)


def _reading(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


class _Salvage:
    def __init__(self, new: apsw.Connection, old: apsw.Connection, damaged: str, time: float) -> None:
        # Two connections: what SQLite finds damaged spoils the transaction that it finds it in.
        self._new = new
        self._old = old
        self._damaged = damaged
        self._time = time
        self._events: list[Event] = []
        old.execute("PRAGMA cell_size_check=ON")

    def run(self) -> None:
        """Copy everything, and name what is missing."""
        with self._new:
            for table in _COLUMNS:
                self._copy_table(table)
            self._copy_ends()
            self._keep_sequences()
            self._name_messages()
            self._name_deliveries()
            for start in range(0, len(self._events), EVENTS_PER_ROW):
                blob = encode_events(self._events[start : start + EVENTS_PER_ROW])
                self._new.execute("INSERT INTO outbox (events) VALUES (?)", (blob,))

    def _copy_table(self, table: str) -> None:
        queries = (f"SELECT max({_COLUMNS[table][0]}) FROM {table}", *_LAST[table])  # noqa: S608 - our own words
        ends = [last for query in queries if (last := self._ask(query))]
        last = max(ends, default=0)
        lost = list(self._copy(table, 0, last))
        # Nothing tells of the last rows: they are looked for a page further, which is what one page may hide.
        lost += self._copy(table, last + 1, last + 4096) if not ends else []
        if table == "outbox":
            for first, end in lost:
                what = f"outbox row {first}" if first == end else f"outbox rows {first} to {end}"
                self._tell(f"{what} cannot be read: lines may be missing; {self._damaged} has the page")

    def _copy(self, table: str, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Copy the rows from *first* to *last*; yields ranges in which there may be some that cannot be read."""
        while first <= last and not self._take(table, first, last):
            good = self._reach(table, first, last, 1)
            end = self._reach(table, last, good, -1)
            # Between them is one damaged page, or several with sound ones in between.
            step = max(1, (end - good) // _SAMPLES)
            sound = next((key for key in range(good + step, end, step) if self._take(table, key, key)), None)
            if sound is None:
                yield good, end
                return
            yield from self._copy(table, good, sound - 1)
            first, last = sound + 1, end

    def _reach(self, table: str, start: int, stop: int, way: int) -> int:
        """Copy from *start* towards *stop* as far as it goes; the first key that does not."""
        done, bad = start, stop
        while done != bad:
            middle = done + (bad - done) // 2 if way > 0 else done - (done - bad) // 2
            if self._take(table, min(done, middle), max(done, middle)):
                done = middle + way
            else:
                bad = middle
        return done

    def _take(self, table: str, first: int, last: int) -> bool:
        """Copy the rows from *first* to *last*, all or none."""
        names = _COLUMNS[table]
        # Text may not be UTF-8, so it goes through as bytes.
        text = {name for name in names if name in TEXT or (table, name) == _KEYS}
        read = ", ".join(f"CAST({name} AS BLOB)" if name in text else name for name in names)
        write = ", ".join("CAST(? AS TEXT)" if name in text else "?" for name in names)
        return self._insert(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({write})",  # noqa: S608 - our own words
            f"SELECT {read} FROM {table} WHERE {names[0]} BETWEEN ?1 AND ?2",  # noqa: S608 - our own words
            (first, last),
        )

    def _copy_ends(self) -> None:
        """What is known of deliveries that have ended: a table whose key is no number."""
        write = "INSERT INTO ended VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT))"
        if not self._insert(write, _ENDED, ()):
            for batch in self._new.execute("SELECT CAST(batch_id AS BLOB) FROM tracked").fetchall():
                self._insert(write, f"{_ENDED} WHERE batch_id = CAST(? AS TEXT)", batch)

    def _insert(self, write: str, read: str, bound: tuple[object, ...]) -> bool:
        """Have what *read* gives written, all or none."""
        self._new.execute("SAVEPOINT copy")
        try:
            self._new.executemany(write, self._old.execute(read, bound))
        except UNREADABLE:
            self._new.execute("ROLLBACK TO copy")
            return False
        finally:
            self._new.execute("RELEASE copy")
        return True

    def _keep_sequences(self) -> None:
        for name in ("outbox", "report", "quarantine"):
            if seq := self._ask(f"SELECT seq FROM sqlite_sequence WHERE name = '{name}'"):  # noqa: S608 - our own words
                self._new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = ?2", (seq, name))

    def _name_messages(self) -> None:
        there = {key for (key,) in self._new.execute("SELECT id FROM message")}
        with suppress(*UNREADABLE):
            for key, batch in self._old.execute(_MESSAGES):
                if key not in there:
                    # Its deliveries find its batch id here (ids.py).
                    statement = b"INSERT INTO message VALUES (%d,CAST(X'%b' AS TEXT)" % (
                        key,
                        batch.hex().upper().encode(),
                    )
                    self._set_aside("message", key, statement, "", batch.decode("utf-8", "backslashreplace"))

    def _name_deliveries(self) -> None:
        there = {row for (row,) in self._new.execute("SELECT row FROM delivery")}
        for index in ("delivery_expires", "delivery_due"):
            with suppress(*UNREADABLE):
                for (row,) in self._old.execute(_DELIVERIES.format(index)):
                    if row not in there:
                        there.add(row)
                        self._name_delivery(row)

    def _name_delivery(self, row: int) -> None:
        for batch, first, count in self._new.execute(_OWNER, (row,)):
            if first <= row < first + count:
                self._set_aside("delivery", row, b"", f"{batch}-{row - first + 1}", batch)
                return
        self._set_aside("delivery", row, b"", "", "")

    def _set_aside(self, source: str, key: int, statement: bytes, id_: str, batch: str) -> None:
        reason = f"its page cannot be read; {self._damaged} has it"
        statement += b" -- " + self._damaged.encode()
        self._new.execute(_SET_ASIDE, (self._time, source, key, reason, statement))
        self._tell(f"{source} row {key} cannot be read and is in quarantine: {reason}", id_, batch)

    def _tell(self, text: str, id_: str = "", batch: str = "") -> None:
        self._events.append(Event(kind=Kind.QUARANTINE, time=self._time, id=id_, batch_id=batch, text=text))

    def _ask(self, query: str) -> int:
        try:
            return int(self._old.execute(query).get or 0)
        except apsw.CorruptError:
            return 0
