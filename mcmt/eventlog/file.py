"""One log file: appending so that a line is on disk whole, once, or not at all.

The file is written only at ``offset``, up to which everything is known to be on disk. What stands past it
is the *tail*: left by a crash, not yet compared with the lines that are owed. ``append`` compares before
it writes, so writing the same lines again after a crash is the same call as writing them first.

Rules: blocking, hence never called on the event loop; the caller remembers ``inode`` and ``offset``
durably before it writes to a file that was opened, and again after every append. A file that was moved,
emptied, removed or written by others in the meantime is noticed before each write. The log files
belong to us: what others append is kept while we run, but not when it stands where our own lines are owed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from mcmt.eventlog.alone import open_alone
from mcmt.eventlog.names import find_inode, real
from mcmt.message.event import LogPosition

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_BLOCK = 65536


class LogFile:
    """An append-only file of lines. Every method may raise OSError."""

    def __init__(self, path: Path, mode: int, tell: Callable[[str], None]) -> None:
        self.path = path
        self.inode = 0
        self.device = 0
        self.offset = 0
        """Bytes known to be on disk."""
        self.tail = 0
        """Bytes past the offset that have not been compared yet."""
        self._mode = mode
        self._tell = tell
        self._descriptor = -1

    def open(self, known: LogPosition | None) -> bool:
        """Open the file of the *known* position, under whichever name it has now, else the path's own, at its end.

        True when it stands at *known*; False when the position is a new one.
        """
        self.close()
        if known is None:
            self._create()
            return False
        place = find_inode(self.path, known.inode)
        if place is None:
            self._tell(
                f"{self.path}: the file that was written last is gone; a new one begins, "
                "and a line whose writing a crash cut short may stand in both"
            )
            self._create()
            return False
        self._descriptor = open_alone(place, _FLAGS, self._mode)
        status = os.fstat(self._descriptor)
        self._apply_mode(status)
        self.inode, self.device = status.st_ino, status.st_dev
        if status.st_size < known.offset:
            self._tell(f"{place}: was cut from outside, from at least {known.offset} to {status.st_size} bytes")
            self._start_at_end(status.st_size)
            return False
        self.offset = known.offset
        self.tail = status.st_size - known.offset
        return True

    def append(self, data: bytes) -> bool:
        """Bring *data*, whole lines, to disk past the offset: one write, one fdatasync.

        False, and nothing written, when the file turned out to be another or to end elsewhere than we left it:
        the position is a new one then, and wants remembering first. On OSError the file is as it was before.
        """
        if not self._is_ours():
            return False
        try:
            present = self._compare(data) if self.tail else 0
            self._write(memoryview(data)[present:], self.offset + present)
            os.fdatasync(self._descriptor)
        except OSError:
            self._abandon()
            raise
        self.offset += len(data)
        self.tail = max(0, self.tail - len(data))
        return True

    def settle(self) -> None:
        """No more lines are owed: keep what whole lines the tail has, cut a torn one."""
        keep = self._whole_lines()
        self._tell(
            f"{self.path}: past the last line that is known as ours stand {self.tail} bytes more: "
            f"{keep} in whole lines kept, {self.tail - keep} cut"
        )
        if keep < self.tail:
            os.ftruncate(self._descriptor, self.offset + keep)
        os.fdatasync(self._descriptor)
        self.offset += keep
        self.tail = 0

    def rotate(self, target: Path) -> bool:
        """Call the file *target* from now on, and begin a new one at the path. False: as in ``append``.

        On OSError it has the name that it had; if even that was refused, the new one, and is written to under it.
        """
        if not self._is_ours():
            return False
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        path, old = real(self.path), (self._descriptor, self.inode, self.device, self.offset)
        path.rename(target)
        try:
            self._create()
        except OSError:
            self._descriptor, self.inode, self.device, self.offset = old
            target.rename(path)  # nothing has been written to what may stand there
            raise
        os.close(old[0])
        return True

    def head(self, length: int) -> bytes:
        """The first *length* bytes, or fewer."""
        return self._read(0, min(length, self.offset))

    def moved(self) -> bool:
        """The path names another file by now, or none."""
        try:
            return self.path.stat().st_ino != self.inode
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Let go of the file; harmless when it is closed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _create(self) -> None:
        self._descriptor = open_alone(self.path, _FLAGS | os.O_CREAT, self._mode)
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path))
            self._apply_mode(status)
            folder = os.open(real(self.path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # or a power loss takes the file's name away
            finally:
                os.close(folder)
            self._start_at_end(status.st_size)
        except OSError:
            self.close()
            raise
        self.inode, self.device = status.st_ino, status.st_dev

    def _begin_anew(self) -> None:
        self._create()  # while the folder is missing too, this is tried again and again; what is true is told
        self._tell(f"{self.path}: was removed; a new one begins")

    def _apply_mode(self, status: os.stat_result) -> None:
        if stat.S_IMODE(status.st_mode) != self._mode:
            with contextlib.suppress(PermissionError):  # an existing file of another owner that we may write
                os.fchmod(self._descriptor, self._mode)

    def _start_at_end(self, size: int) -> None:
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(memoryview(b"\n"), size)
            os.fdatasync(self._descriptor)
            size += 1
        self.offset = size
        self.tail = 0

    def _is_ours(self) -> bool:
        if self._descriptor < 0 and not self._return():
            return False
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            self.close()
            self._begin_anew()
            return False
        if status.st_size != self.offset + self.tail:
            self._tell(f"{self.path}: was written or cut by others; going on at its end")
            self._start_at_end(status.st_size)
            return False
        return True

    def _return(self) -> bool:
        """Open the file again after a failure. What stands past the offset is our own torn write."""
        place = find_inode(self.path, self.inode)
        if place is None:
            self._begin_anew()
            return False
        self._descriptor = open_alone(place, _FLAGS, self._mode)
        if os.fstat(self._descriptor).st_size > self.offset:
            os.ftruncate(self._descriptor, self.offset)
        return True

    def _abandon(self) -> None:
        # After a failed fdatasync the pages count as clean though the disk lacks them (fsync(2), errors): reading
        # would show lines that are not there. So nothing past the offset is believed: it is cut, and written anew.
        self.tail = 0
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.offset)
        with contextlib.suppress(OSError):
            self.close()

    def _compare(self, data: bytes) -> int:
        """How many bytes of *data* stand in the tail already; what disagrees is cut, back to a whole line."""
        have = self._read(self.offset, min(self.tail, len(data)))
        if data.startswith(have):
            return len(have)
        keep = 0
        while (end := data.find(b"\n", keep) + 1) and have[keep:end] == data[keep:end]:
            keep = end
        self._tell(
            f"{self.path}: {self.tail - keep} bytes past offset {self.offset + keep} are not the lines owed there: "
            "cut, and written anew"
        )
        os.ftruncate(self._descriptor, self.offset + keep)
        self.tail = keep
        return keep

    def _whole_lines(self) -> int:
        end = self.tail
        while end > 0:
            start = max(0, end - _BLOCK)
            found = self._read(self.offset + start, end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _read(self, start: int, length: int) -> bytes:
        blocks: list[bytes] = []
        while length > 0 and (block := os.pread(self._descriptor, length, start)):
            blocks.append(block)
            start += len(block)
            length -= len(block)
        return b"".join(blocks)

    def _write(self, data: memoryview, start: int) -> None:
        # A regular file takes less than it was given only when the disk or a limit is nearly full; the next
        # write then says which.
        while data:
            written = os.pwrite(self._descriptor, data, start)
            data = data[written:]
            start += written
