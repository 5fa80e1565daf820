"""The table of registrations, ``registrations.sqlite``: one for the machine (mcmt/spool/registration.py).

It has secrets and device tokens: the file is its owner's alone, as everything in the spool folder. Whichever process
holds the component writes it, and the one that answers commands; each on a connection of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from mcmt.errors import SpoolError
from mcmt.spool.registration import DEVICES, Registration
from mcmt.spool.rows import microseconds, seconds
from mcmt.spool.schema import BUSY_WAIT
from mcmt.spool.store_file import StoreFile

FILE: Final = "registrations.sqlite"
VERSION: Final = 1
APPLICATION: Final = 0x6D637267  # "mcrg", for file(1)
_CACHE = 2 * 1024  # KiB
_TABLES = """
-- AUTOINCREMENT: a number that a reader has seen is never another row's.
CREATE TABLE registration (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    node TEXT NOT NULL,
    owner TEXT NOT NULL,
    device TEXT NOT NULL,
    token TEXT NOT NULL,
    secret TEXT NOT NULL,
    registered INTEGER NOT NULL,    -- microseconds since the epoch
    UNIQUE (service, node),
    UNIQUE (service, owner, device)
) STRICT;
"""
_STORE = StoreFile(FILE, APPLICATION, VERSION, _TABLES, _CACHE)
_COLUMNS = "SELECT service, node, owner, device, token, secret, registered, number FROM registration"
_FIND = f"{_COLUMNS} WHERE service = ?1 AND node = ?2"
_OF_OWNER = f"{_COLUMNS} WHERE service = ?1 AND owner = ?2 ORDER BY number LIMIT {DEVICES}"
_OF_DEVICE = f"{_COLUMNS} WHERE service = ?1 AND owner = ?2 AND device = ?3"
_ALL = f"{_COLUMNS} WHERE number > ?1 ORDER BY number LIMIT ?2"
_OF_SERVICE = f"{_COLUMNS} WHERE number > ?1 AND service = ?3 ORDER BY number LIMIT ?2"
_COUNTS = "SELECT service, count(*) FROM registration GROUP BY service"
_PUT = f"""
INSERT INTO registration (service, node, owner, device, token, secret, registered)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
WHERE (SELECT count(*) FROM registration WHERE service = ?1 AND owner = ?3) < {DEVICES}
AND NOT EXISTS (SELECT 1 FROM registration WHERE service = ?1 AND node = ?2)
"""  # noqa: S608 - our own number
_AGAIN = "UPDATE registration SET token = ?4, registered = ?5 WHERE service = ?1 AND owner = ?2 AND device = ?3"
_REMOVE: Final = {
    (True, False, False): "DELETE FROM registration WHERE service = :service AND node = :node",
    (False, True, False): "DELETE FROM registration WHERE service = :service AND owner = :owner",
    (False, True, True): "DELETE FROM registration WHERE service = :service AND owner = :owner AND device = :device",
}
"""By what is given of node, owner and device."""

T = TypeVar("T")


class StoredRegistrations:
    """``mcmt.spool.registration.Registrations``."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._file = connection.filename
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> StoredRegistrations:
        """Open the table in a spool folder, made if there is none. Raises SpoolUnusable."""
        return cls(_STORE.open(folder, lambda connection: connection.set_busy_timeout(BUSY_WAIT)))

    def find(self, service: str, node: str) -> Registration | None:
        """See Registrations."""
        return next(iter(self._query(_FIND, (service, node))), None)

    def of_owner(self, service: str, owner: str) -> Sequence[Registration]:
        """See Registrations."""
        return self._query(_OF_OWNER, (service, owner))

    def put(self, registration: Registration) -> Registration | None:
        """See Registrations."""
        device = (registration.service, registration.owner, registration.device)
        at = microseconds(registration.registered)

        def work() -> Registration | None:
            with self._connection:
                self._connection.execute(_AGAIN, (*device, registration.token, at))
                if not self._connection.changes():
                    one = registration
                    self._connection.execute(
                        _PUT, (one.service, one.node, one.owner, one.device, one.token, one.secret, at)
                    )
                    if not self._connection.changes():
                        return None
                row = self._connection.execute(_OF_DEVICE, device).fetchone()
            return _registration(row)

        return self._run(work)

    def remove(self, service: str, node: str = "", owner: str = "", device: str = "") -> int:
        """See Registrations."""
        statement = _REMOVE[bool(node), bool(owner), bool(device)]

        def work() -> int:
            before = self._connection.total_changes()
            values = {"service": service, "node": node, "owner": owner, "device": device}
            self._connection.execute(statement, values)
            return self._connection.total_changes() - before

        return self._run(work)

    def counts(self) -> Mapping[str, int]:
        """See Registrations. Along the index of nodes."""
        return self._run(lambda: dict(self._connection.execute(_COUNTS)))

    def page(self, service: str, after: int, limit: int) -> Sequence[Registration]:
        """See Registrations."""
        return self._query(_OF_SERVICE, (after, limit, service)) if service else self._query(_ALL, (after, limit))

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def _query(self, statement: str, values: tuple[Any, ...]) -> Sequence[Registration]:
        return self._run(lambda: [_registration(row) for row in self._connection.execute(statement, values)])

    def _run(self, work: Callable[[], T]) -> T:
        try:
            with self._turn:
                return work()
        except apsw.Error as error:
            raise SpoolError(f"cannot use {self._file}: {error}; check the disk and its free space") from error


def _registration(row: Any) -> Registration:
    fields = dict(
        zip(("service", "node", "owner", "device", "token", "secret", "registered", "number"), row, strict=True)
    )
    return msgspec.structs.replace(Registration(**fields), registered=seconds(row[6]))
