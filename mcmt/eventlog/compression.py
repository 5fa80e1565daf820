"""What becomes of rotated files: the oldest are deleted, the others compressed.

One thread for all loggers does one file at a time, and rests after each block for as long as the block took; the loop
and the thread that writes the logs never wait for it. It has no lower priority than they: were it not let run while it
holds the interpreter's lock, they would wait for it after all (measured on two cores at 20,000 lines a second: the
median wait of a line 2.4 ms, at the lowest priority 6 ms).

A file is compressed under a name that ends in ``.tmp``, brought to disk, renamed, the folder brought to disk, and only
then is the plain file removed. So whatever ends us in between, each line is on disk, and doing it all again is right: a
plain file that is left is compressed anew, an unfinished one is thrown away.

Rules: touches only files that it is given, and those were found by names.rotated() at a moment when no position that
is remembered was in them. Deletes nothing but the files past ``keep``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mcmt.config.settings import RotateSettings
from mcmt.eventlog.names import COMPRESSED, UNFINISHED, Rotated

_BLOCK = 256 * 1024
_SYNC_EVERY = 4 * 1024**2
_LEVEL = 6
_GZIP = 16 + zlib.MAX_WBITS
_LONGEST_REST = 0.1


class Archive:
    """The thread, from the first call of ``tend`` to ``close``."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "rotated logs")
        self._closing = threading.Event()

    async def tend(self, files: Sequence[Rotated], settings: RotateSettings) -> None:
        """Delete and compress among *files*, all those that one log had. Raises OSError: the rest is left for later."""
        if not self._closing.is_set():
            await asyncio.get_running_loop().run_in_executor(self._thread, self._tend, files, settings)

    def close(self) -> None:
        """Stop at the next block; every ``tend`` returns soon."""
        self._closing.set()
        self._thread.shutdown(wait=False)

    def _tend(self, files: Sequence[Rotated], settings: RotateSettings) -> None:
        for file in files:
            if file.suffix == UNFINISHED:
                file.path.unlink(missing_ok=True)
        kept = sorted({file.ended for file in files if file.suffix != UNFINISHED})
        if settings.keep is not None:
            kept = kept[-settings.keep :]
        left = []
        for file in files:
            if file.suffix == UNFINISHED:
                continue
            if file.ended < kept[0]:
                file.path.unlink(missing_ok=True)
            elif not file.suffix:
                left.append(file.path)
        if settings.compress == "gzip":
            for path in left:
                if self._closing.is_set():
                    return
                compress(path, self._closing.wait)


def compress(plain: Path, rest: Callable[[float], bool]) -> bool:
    """Put ``plain.gz`` in the place of *plain*. Raises OSError.

    *rest* waits for so many seconds; when it returns True, nothing is changed, and False returned.
    """
    unfinished = plain.with_name(plain.name + UNFINISHED)
    try:
        with contextlib.suppress(FileNotFoundError):  # it was taken away by hand: nothing to do
            if not _write(plain, unfinished, rest):
                return False
            unfinished.replace(plain.with_name(plain.name + COMPRESSED))
            _sync_folder(plain.parent)
            plain.unlink()
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _write(plain: Path, target: Path, rest: Callable[[float], bool]) -> bool:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    with open(plain, "rb", buffering=0) as source:
        status = os.fstat(source.fileno())
        with open(target, "wb", buffering=0, opener=_private) as sink:
            unsynced = 0
            while True:
                began = time.monotonic()
                block = source.read(_BLOCK)
                if not block:
                    break
                unsynced += _put(sink.fileno(), packer.compress(block))
                if unsynced >= _SYNC_EVERY:
                    # Little by little: the logs' own fdatasync may have to wait for what is written here.
                    os.fdatasync(sink.fileno())
                    unsynced = 0
                if rest(min(_LONGEST_REST, time.monotonic() - began)):
                    return False
            _put(sink.fileno(), packer.flush())
            os.fchmod(sink.fileno(), stat.S_IMODE(status.st_mode))
            os.utime(sink.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(sink.fileno())
    return True


def _put(descriptor: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
