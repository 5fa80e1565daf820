"""The tables of one shard file, their version, and how its connections are opened.

Rules: what nothing queries lives in one JSON or msgpack column; there is an index for what the port asks
and none beside. Times that are compared are whole microseconds, so that a due time read back is the one
that was written. Parts have the ids ``message.id + n`` and the deliveries of a message have consecutive
rows from ``message.row``, so neither needs an index to be found from its message.

There is one writing connection and any number of reading ones; only the writing one checkpoints.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

import apsw

from mcmt.errors import SpoolUnusable
from mcmt.spool.folder import create_file
from mcmt.spool.tracking import TABLES as TABLES_OF_TRACKING

VERSION = 5
APPLICATION = 0x6D636D74  # "mcmt", for file(1)
# https://sqlite.org/wal.html: before it, a checkpoint beside a writer could corrupt a WAL that two connections use.
_FIRST_SOUND_SQLITE = (3, 51, 3)
_WRITER_CACHE = 16 * 1024  # KiB
_READER_CACHE = 4 * 1024  # KiB
BUSY_WAIT = 5000  # ms
# Past this a WAL that was emptied is cut back to it, so that a burst does not keep its space for ever.
_WAL_KEPT = 64 * 1024**2

_TABLES = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    row INTEGER NOT NULL,           -- of its first delivery
    deliveries INTEGER NOT NULL,    -- accepted with it
    pending INTEGER NOT NULL,       -- not finished; kept up to date only where there was more than one
    parts INTEGER NOT NULL,
    sender TEXT NOT NULL,           -- JSON: what every delivery needs
    envelope BLOB NOT NULL          -- msgpack: what only a report needs
) STRICT;
CREATE TABLE part (
    id INTEGER PRIMARY KEY,         -- message.id + n
    head TEXT NOT NULL,             -- JSON: media type, headers
    content BLOB NOT NULL
) STRICT;
CREATE TABLE delivery (
    row INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    domain TEXT NOT NULL,
    due INTEGER NOT NULL,           -- microseconds since the epoch; 0: never tried, at once
    expires INTEGER NOT NULL,       -- microseconds since the epoch
    attempts INTEGER NOT NULL,
    data TEXT NOT NULL,             -- JSON: number, part, recipient, token, size, expires
    last TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,    -- a larger one goes first
    collapse BLOB                   -- a later delivery of the domain with the same one replaces it
) STRICT;
CREATE INDEX delivery_due ON delivery (domain, priority, due);
CREATE INDEX delivery_collapse ON delivery (domain, collapse) WHERE collapse IS NOT NULL;
CREATE INDEX delivery_expires ON delivery (expires);
-- AUTOINCREMENT: a sequence is never used twice, also when the outbox was emptied in between.
CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, events BLOB NOT NULL) STRICT;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    source TEXT NOT NULL,           -- the table that the row stood in
    key INTEGER NOT NULL,
    reason TEXT NOT NULL,
    statement BLOB NOT NULL         -- the INSERT that puts it back, byte for byte
) STRICT;
"""
# Since version 2. The unique index finds a message's reports, due ones are found by theirs.
_REPORTS = """
-- AUTOINCREMENT: the failures of a report in quarantine must not be taken for another one's.
CREATE TABLE report (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    return_path TEXT NOT NULL,
    due INTEGER NOT NULL,           -- microseconds since the epoch; 0: nothing of its message is pending
    UNIQUE (message, return_path)
) STRICT;
CREATE INDEX report_due ON report (due);
CREATE TABLE failure (
    id INTEGER PRIMARY KEY,         -- grows
    report INTEGER NOT NULL,
    due INTEGER NOT NULL,           -- when it is to be told at the latest
    data TEXT NOT NULL,             -- JSON: mcmt.message.failure.Failure
    last TEXT NOT NULL              -- the answer before, taken over from the delivery
) STRICT;
CREATE INDEX failure_report ON failure (report);
"""
# Since version 3 the event log remembers its files' positions in the state store; upgrade.py carries them there first.
_WITHOUT_POSITIONS = "DROP TABLE position"
# Sequences of a shard that is deleted and made anew go on past the old ones, which the event log may still remember:
# no shard has a million rows a second.
_FIRST_SEQUENCE = "INSERT INTO sqlite_sequence VALUES ('outbox', {});"
# Since version 5. What is in quarantine is put back as it was, whatever columns have come since.
_PRIORITIES = """
ALTER TABLE delivery ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN collapse BLOB;
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (domain, priority, due);
CREATE INDEX delivery_collapse ON delivery (domain, collapse) WHERE collapse IS NOT NULL;
UPDATE quarantine SET statement = CAST(
    'INSERT INTO delivery (row, message, domain, due, expires, attempts, data, last) VALUES (' || substr(statement, 30)
    AS BLOB)
WHERE substr(statement, 1, 29) = CAST('INSERT INTO delivery VALUES (' AS BLOB);
"""
# Since version 5: deliveries whose senders want to hear when they are late. A row goes with its delivery, or when it is
# due; as long as it is there its key is not given again (transaction.py, _KEYS).
_DELAYS = """
CREATE TABLE delay (
    row INTEGER PRIMARY KEY,        -- delivery.row
    due INTEGER NOT NULL            -- microseconds since the epoch
) STRICT;
CREATE INDEX delay_due ON delay (due);
"""
# Since version 4: what became of messages whose senders may ask.
_MIGRATIONS = {1: _REPORTS, 2: _WITHOUT_POSITIONS, 3: TABLES_OF_TRACKING, 4: _PRIORITIES + _DELAYS}
"""What brings a file from that version to the next one."""

COLUMNS = {
    "message": ("id", "batch_id", "row", "deliveries", "pending", "parts", "sender", "envelope"),
    "part": ("id", "head", "content"),
    "delivery": (
        *("row", "message", "domain", "due", "expires", "attempts", "data", "last"),
        *("priority", "collapse"),
    ),
    "outbox": ("sequence", "events"),
    "report": ("id", "message", "return_path", "due"),
}
"""Columns of the tables that rows are inserted into or quarantined from, the key first."""


def open_writer(path: Path, created: float) -> apsw.Connection:
    """The one connection that writes, with the tables made. Raises SpoolUnusable.

    *created*: the time now, for a file that is not there yet.
    """
    check_sqlite()
    create_file(path)
    connection = reopen_writer(path)
    try:
        tables = _TABLES + _REPORTS + TABLES_OF_TRACKING + _DELAYS + _FIRST_SEQUENCE.format(int(created * 1e6))
        prepare(connection, path, APPLICATION, VERSION, tables, _MIGRATIONS)
    except apsw.Error as error:
        raise unusable(path, error) from error
    return connection


def reopen_writer(path: Path) -> apsw.Connection:
    """``open_writer`` for a file whose tables were made: after a failed sync. Raises SpoolUnusable."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        configure(connection, _WRITER_CACHE)
        # Checkpoints are the writer's own business: none in the middle of a commit that somebody waits for.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_KEPT}")
        write_anew(connection)
    except apsw.Error as error:
        raise unusable(path, error) from error
    return connection


def write_anew(connection: apsw.Connection) -> None:
    """Bring everything in the WAL into the file, synced, and begin a new WAL. Raises apsw.Error.

    What a WAL holds when it is opened need not be on the disk: its writer may have been killed before a sync, or one
    may have failed, after which the kernel takes the pages for clean and no later sync writes them (fsync(2), errors).
    Whatever is added to such a WAL is lost with it when the power fails. So what can be read of it is written again.
    """
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def open_reader(path: Path) -> apsw.Connection:
    """A connection that cannot write and never waits for the one that does."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        configure(connection, _READER_CACHE)
    except apsw.Error as error:
        raise unusable(path, error) from error
    return connection


def check_sqlite() -> None:
    """Refuse a library that can damage the file."""
    found = tuple(map(int, apsw.sqlite_lib_version().split(".")))
    if found < _FIRST_SOUND_SQLITE:
        raise SpoolUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a spool; 3.51.3 or later is needed: pip install -U apsw"
        )


def configure(connection: apsw.Connection, cache: int) -> None:
    """The settings that every connection has."""
    connection.set_busy_timeout(BUSY_WAIT)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA cache_size=-{cache}")


def prepare(
    connection: apsw.Connection,
    path: Path,
    application: int,
    version: int,
    tables: str,
    migrations: Mapping[int, str] = {},
) -> None:
    """Make the tables of an empty file, bring older ones up to *version*, or check that they are the ones we know.

    In one transaction: a file is of one version or of the other, whenever this is killed.
    """
    with connection:
        found = connection.pragma("user_version"), connection.pragma("application_id")
        if found == (0, 0) and not connection.execute("SELECT count(*) FROM sqlite_schema").get:
            connection.execute(tables)
            connection.pragma("application_id", application)
            connection.pragma("user_version", version)
        elif found[1] != application:
            raise SpoolUnusable(f"{path} is a database of another program; name another folder in spool.path")
        elif found[0] > version or not all(step in migrations for step in range(found[0], version)):
            raise SpoolUnusable(
                f"{path} has schema version {found[0]} and this mcmt knows version {version};"
                " run the mcmt that wrote it, or a later one"
            )
        elif found[0] < version:
            for step in range(found[0], version):
                connection.execute(migrations[step])
            connection.pragma("user_version", version)


def unusable(path: Path, error: apsw.Error) -> SpoolUnusable:
    """What an operator is told when a file cannot be opened."""
    return SpoolUnusable(f"cannot open {path}: {error}; check disk and rights, or restore the file from a backup")


def ids(keys: Iterable[int]) -> apsw.CArrayBinding:
    """Keys as one argument, for ``IN carray(?)``."""
    # An empty array has no address of its own, and SQLite wants an aligned one; no key is negative.
    return apsw.carray(array("q", keys) or array("q", (-1,)))
