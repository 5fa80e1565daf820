"""The names of a log's files: which one is being written, which were rotated, and in what order.

    apnlog.ec                            being written
    apnlog.ec-20261122T180000Z           rotated at 18:00:00 UTC: no line in it is younger
    apnlog.ec-20261122T180000Z.gz        the same, compressed; the plain one is removed once this is on disk
    apnlog.ec-20261122T180000Z.gz.tmp    on its way to be that one, worthless if we end before

Names sort in the order in which the files were written, in any locale and whatever the clock does: a second that is
taken, or lies before the last one, is replaced by the one after the last. No name is used twice.

Rules: looks at folders and changes nothing; blocking, hence never called on the event loop.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

COMPRESSED = ".gz"
UNFINISHED = ".gz.tmp"

_STAMP = "%Y%m%dT%H%M%SZ"
_ENDING = re.compile(r"-(\d{8}T\d{6}Z)(\.gz|\.gz\.tmp)?")
_NEVER_WRITTEN = (".gz", ".tmp", ".bz2", ".xz", ".zst")


class Rotated(NamedTuple):
    """One file that a rotation left."""

    ended: int
    """Seconds since the epoch, as in its name."""
    suffix: str
    """Empty, COMPRESSED or UNFINISHED."""
    inode: int
    path: Path


def real(path: Path) -> Path:
    """Where the file of that name is, links followed: rotation must not rename the link."""
    return Path(os.path.realpath(path))


def rotated(path: Path) -> Sequence[Rotated]:
    """The rotated files of the log *path*, in the order in which they were written. Raises OSError."""
    log = real(path)
    found = []
    with os.scandir(log.parent) as entries:
        for entry in entries:
            if not entry.name.startswith(log.name):
                continue
            match = _ENDING.fullmatch(entry.name, len(log.name))
            if match is None or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(ValueError):  # a 31st of February is no name of ours
                ended = calendar.timegm(time.strptime(match[1], _STAMP))
                found.append(Rotated(ended, match[2] or "", entry.inode(), log.with_name(entry.name)))
    return sorted(found)


def next_name(path: Path, existing: Sequence[Rotated], now: float) -> Path:
    """What the log *path* is called once it is rotated at the time *now*."""
    ended = max(int(now), existing[-1].ended + 1) if existing else int(now)
    log = real(path)
    return log.with_name(f"{log.name}-{time.strftime(_STAMP, time.gmtime(ended))}")


def looks_rotated(name: str) -> bool:
    """A log must not have such a name: it could be another's rotated file."""
    return any(not name[match.end() :] for match in _ENDING.finditer(name))


def find_inode(path: Path, inode: int) -> Path | None:
    """The file that the log *path* was written to, by its inode, under whichever name it has now."""
    for place in _places(path):
        with contextlib.suppress(OSError):
            status = place.stat()
            if status.st_ino == inode and stat.S_ISREG(status.st_mode):
                return place
    return None


def _places(path: Path) -> Iterator[Path]:
    yield path
    for log in dict.fromkeys((path, real(path))):
        with contextlib.suppress(OSError):
            # Rotated names: log.ec.1, log.ec-20250131, log-20250131.ec; another logger's log.json is none.
            for place in sorted(log.parent.iterdir()):
                if place.suffix not in _NEVER_WRITTEN and (
                    place.name.startswith(log.name) or (place.name.startswith(log.stem) and place.suffix == log.suffix)
                ):
                    yield place
