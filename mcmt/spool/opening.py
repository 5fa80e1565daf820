"""Opening a shard: the folder, its lock, an older version, damaged pages, the connections. Blocking."""

from __future__ import annotations

import logging
from pathlib import Path

import apsw

from mcmt.errors import SpoolUnusable
from mcmt.spool.folder import FolderLock, prepare_folder, sync_folder
from mcmt.spool.salvage import salvage, suspect
from mcmt.spool.schema import open_reader, open_writer
from mcmt.spool.transaction import Keys
from mcmt.spool.upgrade import upgrade

log = logging.getLogger(__name__)


def open_files(
    path: Path, name: str, locked: bool, created: float
) -> tuple[FolderLock | None, apsw.Connection, tuple[apsw.Connection, ...]]:
    """The folder's lock unless it is *locked*, the writing connection of the shard file *name*, and three that read.

    *created*: the time now. Raises SpoolLocked, SpoolUnusable; then nothing is left open.
    """
    prepare_folder(path)
    lock = None if locked else FolderLock.acquire(path)
    connections: list[apsw.Connection] = []
    try:
        connections.append(_open_writer(path / name, created))
        connections += [open_reader(path / name) for _ in range(3)]
        sync_folder(path)
    except BaseException:
        for connection in connections:
            connection.close()
        if lock is not None:
            lock.release()
        raise
    return lock, connections[0], tuple(connections[1:])


def _open_writer(path: Path, created: float) -> apsw.Connection:
    if not suspect(path).exists():
        try:
            return _try_writer(path, created)
        except (apsw.CorruptError, SpoolUnusable) as error:
            cause = error if isinstance(error, apsw.Error) else error.__cause__
            if not isinstance(cause, apsw.CorruptError):
                raise
    log.error("%s has damaged pages: what can be read is copied into a new file", path)
    damaged = salvage(path, created)
    log.error(
        "%s is whole again; the damaged file is %s. What could not be read is named in the main log (Q), "
        "and mcmt audit tells what is missing. Check the disk",
        path,
        damaged,
    )
    return _try_writer(path, created)


def _try_writer(path: Path, created: float) -> apsw.Connection:
    upgrade(path)
    connection = open_writer(path, created)
    try:
        Keys(connection)  # reads the ends of every table, as whoever writes will have to
    except apsw.Error:
        connection.close()
        raise
    return connection
