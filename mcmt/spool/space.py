"""Room on the disk: what is kept free so that deliveries can be finished when no message is taken any more.

Asked at every acceptance (statvfs, about a microsecond), so that it needs no timer and is over by itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from mcmt.errors import SpoolError, SpoolFull


class Space:
    """The file system of the spool."""

    def __init__(self, path: Path, min_free: int) -> None:
        self._path = path
        self._min_free = min_free

    def require(self) -> None:
        """Raise SpoolFull when less than ``min_free`` bytes are free to us."""
        if not self._min_free:
            return
        try:
            found = os.statvfs(self._path)
        except OSError as error:
            raise SpoolError(f"{self._path} cannot be looked at: {error}") from error
        free = found.f_bavail * found.f_frsize
        if free < self._min_free:
            raise SpoolFull(
                f"{free} bytes are free at {self._path}, and min_free keeps {self._min_free} for what was accepted: "
                "make room, or lower min_free"
            )
