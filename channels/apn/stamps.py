"""Whether a file is the one that was read before, so that what was read of it can be kept until it changes."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[tuple[int, int, int, int] | None, ...]


def stamp(*files: Path | str | None) -> Stamp:
    """Of each file its device, inode, size and time of change; None for one that is not there or not given."""
    return tuple(map(_stamp, files))


def _stamp(file: Path | str | None) -> tuple[int, int, int, int] | None:
    if file is None:
        return None
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
