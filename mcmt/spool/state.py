"""The state store: a small durable key-value table for what outlives a connection and a restart.

Provider tokens live here, how far the event log has come, and whatever the workers of one machine share. Few and small
values: a put is an fsync on the caller's thread. Safe for several processes at once: each opens its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import apsw

from mcmt.errors import SpoolError
from mcmt.spool.schema import BUSY_WAIT, write_anew
from mcmt.spool.store_file import StoreFile

FILE = "state.sqlite"
VERSION = 1
APPLICATION = 0x6D637374  # "mcst", for file(1)
_CACHE = 256  # KiB
_TABLES = """
CREATE TABLE state (scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (scope, key))
STRICT, WITHOUT ROWID;
"""
_STORE = StoreFile(FILE, APPLICATION, VERSION, _TABLES, _CACHE)
_PUT = "INSERT INTO state VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3"

_PUT_FIRST = "INSERT OR IGNORE INTO state VALUES (?1, ?2, ?3)"
_SWAP = "UPDATE state SET value = ?3 WHERE scope = ?1 AND key = ?2 AND value = ?4"


def _settle(connection: apsw.Connection) -> None:
    with suppress(apsw.BusyError):  # another process has it open, and the first one did this
        connection.set_busy_timeout(0)
        write_anew(connection)
    connection.set_busy_timeout(BUSY_WAIT)


class Scope:
    """The keys of one channel: the handle that a channel gets (mcmt/channel/port.py, State)."""

    def __init__(self, store: StateStore, name: str) -> None:
        self._store = store
        self._name = name

    def get(self, key: str) -> bytes | None:
        """The value put last, by whichever process, or None. Raises SpoolError."""
        return self._store.get(key, self._name)

    def put(self, key: str, value: bytes) -> None:
        """Keep *value*; on disk when this returns. Raises SpoolError."""
        self._store.put(key, value, self._name)

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        """Keep *value* if what is kept is *before*, in one step among all processes; whether it was. Raises
        SpoolError."""
        return self._store.swap(key, before, value, self._name)


class StateStore:
    """The file ``state.sqlite`` of a spool folder. May be used from any thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> StateStore:
        """Open the store in a spool folder. Raises SpoolUnusable."""
        return cls(_STORE.open(folder, _settle))

    def scope(self, name: str) -> Scope:
        """A view of the keys of *name* alone."""
        return Scope(self, name)

    def get(self, key: str, scope: str = "") -> bytes | None:
        """The value put last, or None. Raises SpoolError."""
        try:
            with self._turn:
                value: bytes | None = self._connection.execute(
                    "SELECT value FROM state WHERE scope = ? AND key = ?", (scope, key)
                ).get
        except apsw.Error as error:
            raise SpoolError(f"cannot read {self._connection.filename}: {error}; check the disk") from error
        return value

    def all(self, scope: str = "") -> Mapping[str, bytes]:
        """Every key with its value put last. Raises SpoolError."""
        try:
            with self._turn:
                return dict(self._connection.execute("SELECT key, value FROM state WHERE scope = ?", (scope,)))
        except apsw.Error as error:
            raise SpoolError(f"cannot read {self._connection.filename}: {error}; check the disk") from error

    def put(self, key: str, value: bytes, scope: str = "") -> None:
        """Keep *value*; on disk when this returns. Raises SpoolError."""
        self.put_all({key: value}, scope)

    def put_all(self, values: Mapping[str, bytes], scope: str = "") -> None:
        """Keep all of them or none, in one transaction that is on disk when this returns. Raises SpoolError."""
        try:
            with self._turn, self._connection:
                self._connection.executemany(_PUT, [(scope, key, value) for key, value in values.items()])
        except apsw.Error as error:
            raise SpoolError(
                f"cannot write {self._connection.filename}: {error}; check the disk and its free space"
            ) from error

    def swap(self, key: str, before: bytes | None, value: bytes, scope: str = "") -> bool:
        """Keep *value* if what is kept is *before*, None standing for nothing; whether it was. Raises SpoolError."""
        try:
            with self._turn:
                if before is None:
                    self._connection.execute(_PUT_FIRST, (scope, key, value))
                else:
                    self._connection.execute(_SWAP, (scope, key, value, before))
                return self._connection.changes() > 0
        except apsw.Error as error:
            raise SpoolError(
                f"cannot write {self._connection.filename}: {error}; check the disk and its free space"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()
