"""The files of a log, read back from the outside: the one being written, rotated ones, compressed ones.

They are found by name: as rotation names them (names.py), and as logrotate does (``log.1``, ``log-20261122``, with its
``extension`` too). What a file is called changes while it is read: it is rotated, numbered on, compressed. So a file is
known by how it begins, and how far it was read counts in bytes of text: ``blocks`` goes on from there, whatever the
file is called by then, and reads nothing twice. A plain file beside its compressed copy is one.

Rules: changes nothing, asks nobody; memory holds one block. Lines are whole: what has no end yet is left for later.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from mcmt.errors import EventLogError
from mcmt.eventlog.names import UNFINISHED, real, rotated

_BLOCK = 1024**2
_HEAD = 4096
_ATTEMPTS = 5
_NUMBERED = r"[-.]\d[\dTZ_.:-]*"
_PACKED = r"(?P<packed>\.gz|\.bz2|\.xz|\.zst)?"
_TIME = re.compile(rb'(?:(\d+(?:\.\d+)?)@|\{.*?"time":(\d+(?:\.\d+)?))')

_DAMAGED = (EOFError, zlib.error, lzma.LZMAError)


class _Known:
    """One file, under whichever name."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.read = 0
        self.unpacked: set[tuple[str, int]] = set()
        """Name and size of compressed files that were read to their end."""


class LogReader:
    """The log *path*. *strangers*: other logs, whose names could be taken for its rotated files."""

    def __init__(self, path: Path, strangers: Collection[Path] = ()) -> None:
        self.path = real(path)
        self.began = float("inf")
        """When the earliest first line of a file was written, seconds since the epoch."""
        self._strangers = {real(stranger) for stranger in strangers}
        self._known: list[_Known] = []
        self._torn: set[Path] = set()

    @property
    def torn(self) -> int:
        """How many files end in the middle of a line, the one being written not counted."""
        return len(self._torn - {self.path})

    @property
    def files(self) -> int:
        """How many files had lines."""
        return len(self._known)

    def complete(self, keep: int | None) -> bool:
        """Whether no file can have been deleted by rotation that keeps *keep* of them; None: all."""
        found = {path.with_suffix("") if packed else path for path, packed in self._rotated()}
        ours = {file.ended for file in rotated(self.path) if file.suffix != UNFINISHED}
        return len(ours) == len(found) and (keep is None or len(ours) < keep)

    def blocks(self) -> Iterator[list[bytes]]:
        """Every whole line not read before, in lists of many. In a file they are in order, the files are in none.

        Raises EventLogError naming the file that cannot be read.
        """
        for _ in range(_ATTEMPTS):
            # The one being written comes before the listing: if it is rotated meanwhile, it is listed, and known.
            yield from self._file(self.path, "")
            listed = self._rotated()
            for path, packed in listed:
                yield from self._file(path, packed)
            if self._rotated() == listed:
                return
        raise EventLogError(f"{self.path}: its files are renamed faster than they can be read")

    def in_order(self, since: float = 0.0) -> Iterator[list[bytes]]:
        """As ``blocks``, the oldest file first. Files that were not written since that time are passed over.

        If a file is rotated meanwhile, what it had is read last. Raises EventLogError.
        """
        for _ in range(_ATTEMPTS):
            listed = self._rotated()
            for _, path, packed in sorted((self._start(path, packed), path, packed) for path, packed in listed):
                if _written_since(path, since):
                    yield from self._file(path, packed)
            yield from self._file(self.path, "")
            if self._rotated() == listed:
                return
        raise EventLogError(f"{self.path}: its files are renamed faster than they can be read")

    def _start(self, path: Path, packed: str) -> float:
        """When the file's first line was written; 0 when nobody can tell."""
        try:
            with _open(path, packed) as file:
                match = _TIME.match(file.read(_HEAD))
        except (OSError, *_DAMAGED):
            return 0.0
        return float(match[1] or match[2]) if match else 0.0

    def _rotated(self) -> list[tuple[Path, str]]:
        """All files but the one being written, each with how it is compressed. Raises EventLogError."""
        log = self.path
        stem, extension = re.escape(log.stem), re.escape(log.suffix)
        pattern = re.compile(
            rf"{re.escape(log.name)}{_NUMBERED}{_PACKED}|{stem}{_NUMBERED}{extension}{_PACKED.replace('packed', 'p')}"
        )
        found = []
        try:
            for path in sorted(log.parent.iterdir()):
                match = pattern.fullmatch(path.name)
                if match and path not in self._strangers and path != log:
                    found.append((path, match["packed"] or match["p"] or ""))
        except OSError as error:
            raise EventLogError(f"{log.parent} cannot be read: {error.strerror or error}") from error
        return found

    def _file(self, path: Path, packed: str) -> Iterator[list[bytes]]:
        try:
            yield from self._lines(path, packed)
        except FileNotFoundError:
            pass  # renamed or deleted meanwhile: the next listing shows it
        except OSError as error:
            raise EventLogError(f"{path} cannot be read: {error.strerror or error}") from error
        except _DAMAGED as error:
            raise EventLogError(f"{path} is damaged and cannot be unpacked: {error}") from error

    def _lines(self, path: Path, packed: str) -> Iterator[list[bytes]]:
        mark = (path.name, path.stat().st_size)
        if packed and any(mark in known.unpacked for known in self._known):
            return
        with _open(path, packed) as file:
            head = _read(file, _HEAD)
            if b"\n" not in head and len(head) < _HEAD:
                return  # nothing whole yet, and too little to know it by
            known = self._recognise(head)
            if known.read <= len(head):
                rest = head[known.read :]
            else:
                file.seek(known.read)
                rest = b""
            while True:
                block = _read(file, _BLOCK)
                data = rest + block if rest else block
                end = data.rfind(b"\n") + 1
                rest = data[end:]
                if end:
                    known.read += end
                    yield data[: end - 1].split(b"\n")
                if not block:
                    break
        (self._torn.add if rest else self._torn.discard)(path)
        if packed:
            known.unpacked.add(mark)

    def _recognise(self, head: bytes) -> _Known:
        for known in self._known:
            length = min(len(known.head), len(head))
            if known.head[:length] == head[:length]:
                known.head = max(known.head, head, key=len)
                return known
        match = _TIME.match(head)
        if match:
            self.began = min(self.began, float(match[1] or match[2]))
        self._known.append(_Known(head))
        return self._known[-1]


def _written_since(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return True  # renamed: the next listing shows it


def _open(path: Path, packed: str) -> BinaryIO:
    match packed:
        case "":
            return open(path, "rb", buffering=0)
        case ".gz":
            return cast("BinaryIO", gzip.open(path))
        case ".bz2":
            return cast("BinaryIO", bz2.open(path))
        case ".xz":
            return cast("BinaryIO", lzma.open(path))
    raise EventLogError(f"{path}: {packed} cannot be unpacked here: unpack it, or move it away")


def _read(file: BinaryIO, length: int) -> bytes:
    """*length* bytes, fewer only at the end."""
    data = file.read(length)
    while data and len(data) < length and (more := file.read(length - len(data))):
        data += more
    return data
