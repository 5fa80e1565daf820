"""Whether a file is the one that was read before, so that what was read of it can be kept until it changes."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[tuple[int, ...] | None, ...]


def stamp(*files: Path | str | None) -> Stamp:
    """Of each file its device, inode, size, time of change and who reads it; None for one that is not there or not
    given. Root may have read what the user that it becomes may not (run_as)."""
    return tuple(map(_stamp, files))


def _stamp(file: Path | str | None) -> tuple[int, ...] | None:
    if file is None:
        return None
    try:
        status = Path(file).stat()
    except OSError:
        return None
    # The time of change, not of modification: a chmod changes who may read it.
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns, os.geteuid()
