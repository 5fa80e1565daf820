"""Room on the disk: what is kept free so that deliveries can be finished when no message is taken any more.

Asked at every acceptance, so that it needs no timer and is over by itself. A look (statvfs: 1.5 us, for which the
interpreter lock is given up) holds for a moment, and for a share of what it found: 1,000 messages took 1.5 ms of CPU,
and take 0.2.
"""

from __future__ import annotations

import os
from pathlib import Path

from mcmt.errors import SpoolError, SpoolFull

LOOK_SECONDS = 0.1
"""How long a look holds: others write to the disk too."""
_SHARE = 8
# What a message takes besides its bodies, with its deliveries' rows and their indexes, in the WAL and in the file.
_OVERHEAD = 4096
_EACH_DELIVERY = 1024


class Space:
    """The file system of the spool."""

    def __init__(self, path: Path, min_free: int) -> None:
        self._path = path
        self._min_free = min_free
        self._until = 0.0
        self._credit = 0

    def require(self, now: float, size: int, deliveries: int, reusable: int = 0) -> None:
        """Raise SpoolFull when less than ``min_free`` bytes are free to us.

        *now*: seconds of a clock that never jumps. *size*: bytes of the bodies of the message that is to be kept.
        *reusable*: bytes that are free to us beside those of the disk.
        """
        if not self._min_free:
            return
        needed = 2 * size + _OVERHEAD + _EACH_DELIVERY * deliveries
        if now < self._until and needed <= self._credit:
            self._credit -= needed
            return
        self._credit = 0
        try:
            found = os.statvfs(self._path)
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be looked at: {error}") from error
        free = found.f_bavail * found.f_frsize + reusable
        if free < self._min_free:
            inside = f" ({reusable} of them inside the spool's own file)" if reusable else ""
            raise SpoolFull(
                f"{free} bytes are free at {self._path}{inside}, and min_free keeps {self._min_free} for what was "
                "accepted: make room, or lower min_free"
            )
        self._until = now + LOOK_SECONDS
        self._credit = (free - self._min_free) // _SHARE
