"""What a shard of an older version needs before it is opened: its log positions, carried into the state store.

Up to version 2 the positions of the log files stood in the shard, and the acknowledged rows went with them in one
transaction. They go to the state store first, and only then is the shard brought up to the version without them: a
crash in between carries the same values once more.

To be called, under the folder's lock, before the event log loads what it remembers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from mcmt.message.event import Remembered
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.schema import APPLICATION, check_sqlite, open_writer, unusable
from mcmt.spool.state import StateStore

_WITH_POSITIONS = (1, 2)
_THROUGH = """
SELECT coalesce((SELECT min(sequence) - 1 FROM outbox), (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)
"""


def upgrade(path: Path) -> None:
    """Bring the shard file at *path*, ``shard-NAME.sqlite``, up to the version that we know. Raises SpoolUnusable."""
    if not path.exists():
        return
    check_sqlite()
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            if connection.pragma("application_id") != APPLICATION:
                return
            if connection.pragma("user_version") not in _WITH_POSITIONS:
                return
            positions: list[Any] = connection.execute("SELECT logger, inode, offset FROM position").fetchall()
            through = connection.execute(_THROUGH).get
        finally:
            connection.close()
    except apsw.Error as error:
        raise unusable(path, error) from error
    name = path.stem.removeprefix("shard-")
    state = StateStore.open(path.parent)
    try:
        memory = StoredLogMemory(state)
        memory.save([Remembered(logger, inode, offset, {name: through}) for logger, inode, offset in positions])
    finally:
        state.close()
    open_writer(path, 0.0).close()
