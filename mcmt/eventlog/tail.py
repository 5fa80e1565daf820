"""The tail of a log file: the lines past the remembered offset, which a crash left.

They are of rows that will be read again, of several shards in any order, so they are not compared as bytes but counted:
a line that is owed and stands in the tail is taken out of it instead of being written. What is left when every shard
was read is nobody's: heartbeats, or another hand's.

Counted are digests, so that the tail's memory does not depend on the length of its lines, and so that it can be saved
with the file's position while a shard that may own some of its lines is away.

Rules: blocking; reads a file and changes none. A tail is as long as what is written between two savings (saving.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b

MAX_LINES = 1_000_000
"""More than this are not counted: so many are never written between two savings."""
_DIGEST = 16
_BLOCK = 256 * 1024
_LONGEST = 16 * 1024**2
# Escaping leaves none in a line of ours (escape.py, and JSON's own rules); after a power loss a file may hold NULs.
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")


class Tail:
    """How often each line stands in the tail."""

    def __init__(self, packed: bytes = b"") -> None:
        self._counts: dict[bytes, int] = {}
        self._lines = 0
        for start in range(0, len(packed), _DIGEST):
            self._add(packed[start : start + _DIGEST])

    def __len__(self) -> int:
        """Lines."""
        return self._lines

    @property
    def packed_size(self) -> int:
        """Bytes of ``pack()``."""
        return self._lines * _DIGEST

    def add(self, line: bytes) -> None:
        """A line, without its newline, stands in the file."""
        if self._lines < MAX_LINES:
            self._add(_digest(line))

    def take(self, line: bytes) -> bool:
        """The line is owed: True when it stands in the file, and then once less in the tail."""
        key = _digest(line)
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        elif count == 1:
            del self._counts[key]
        self._lines -= count > 0
        return count > 0

    def put_back(self, lines: Iterable[bytes]) -> None:
        """These were taken, and are owed again."""
        for line in lines:
            self._add(_digest(line))

    def pack(self) -> bytes:
        """All of it, as ``Tail(packed)`` takes it."""
        return b"".join([key * count for key, count in self._counts.items()])

    def _add(self, key: bytes) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1
        self._lines += 1


def whole_lines(descriptor: int, start: int) -> Iterator[bytes]:
    """The lines from *start*, without their newlines, that are whole and can be ours, up to the first that is not.

    Raises OSError."""
    rest = b""
    while block := os.pread(descriptor, _BLOCK, start):
        start += len(block)
        bad = _CONTROL.search(block)
        *whole, rest = (rest + (block[: bad.start()] if bad else block)).split(b"\n")
        yield from whole
        if bad or len(rest) > _LONGEST:
            return


def is_torn(text: bytes) -> bool:
    """It is the beginning of a line of ours, and no more."""
    return b"\n" not in text and not _CONTROL.search(text)


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=_DIGEST).digest()
