"""The files of the shards in a spool folder: named, found, removed.

Rules: synchronous; not for the event loop's thread.
"""

from __future__ import annotations

import re
from pathlib import Path

from mcmt.spool.folder import sync_folder

_SHARD = re.compile(r"shard-(0|[1-9]\d*)\.sqlite").fullmatch


def shard_file(number: int) -> str:
    """The name of a shard's file."""
    return f"shard-{number}.sqlite"


def shards_in(folder: Path) -> list[int]:
    """The numbers of the shards that a spool folder has."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _SHARD(entry.name)))


def remove_shard(folder: Path, number: int) -> None:
    """Remove a closed shard's file, which must be empty."""
    for suffix in ("-wal", "-shm", ""):
        (folder / f"{shard_file(number)}{suffix}").unlink(missing_ok=True)
    sync_folder(folder)
