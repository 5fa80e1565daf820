"""One log file: appending so that a line is on disk whole, once, or not at all.

The file is written only at ``offset``, its end. Up to ``safe`` everything is on disk and remembered; what stands past
that is of rows that are kept elsewhere, so a failure goes back there: it is cut, and written anew. What a crash left
past it is the *tail* (tail.py), taken in when the file is opened.

Rules: blocking, hence never called on the event loop; the caller remembers ``inode`` and ``offset`` durably before it
writes to a file that was opened, and calls ``sync`` before it remembers them again. A file that was moved, emptied,
removed or written by others in the meantime is noticed before each write. The log files belong to us: what others
append is kept, but after a crash not when it holds control characters, which no line of ours has.
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
from mcmt.eventlog.tail import is_torn, whole_lines
from mcmt.message.event import Remembered

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_HEAD = 65536
_BLOCK = 256 * 1024


class LogFile:
    """An append-only file of lines. Every method may raise OSError."""

    def __init__(self, path: Path, mode: int, tell: Callable[[str], None]) -> None:
        self.path = path
        self.inode = 0
        self.offset = 0
        """Where the next line begins."""
        self.safe = 0
        """Bytes that are on disk and remembered, or were there before anything was written."""
        self.lost = False
        """What stood past ``safe`` is gone. Set here; whoever writes it anew takes it back."""
        self._dirty = False
        self._taken_in = False
        """What stands from ``safe`` on was found there, not written."""
        self._mode = mode
        self._tell = tell
        self._descriptor = -1

    def open(self, known: Remembered | None, take: Callable[[bytes], None] | None = None) -> bool:
        """Open the *known* file, under whichever name it has now, else the path's own, at its end.

        True when it ends where it is known to. False when its end is to be remembered first; where the known file is
        longer, *take* was told each line past the known offset, and what cannot be ours was cut.
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
        self.inode = status.st_ino
        if status.st_size < known.offset:
            self._tell(f"{place}: was cut from outside, from at least {known.offset} to {status.st_size} bytes")
            self._start_at_end(status.st_size)
            return False
        self.safe = self.offset = known.offset
        if status.st_size == known.offset:
            return True
        self._take_in(status.st_size, take)
        return False

    def append(self, data: bytes) -> bool:
        """Write *data*, whole lines, at the end. On disk it is after ``sync``.

        False, and nothing written, when the file turned out to be another or to end elsewhere than we left it:
        that end wants remembering first. On OSError the file ends where it did, or at ``safe``, and ``lost`` is set.
        """
        if not self._is_ours():
            return False
        try:
            self._write(memoryview(data), self.offset)
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.offset)
            except OSError:
                self._abandon()
            raise
        self.offset += len(data)
        self._dirty = True
        return True

    def sync(self) -> None:
        """Bring everything to disk. On OSError the file ends at ``safe``, and ``lost`` is set."""
        if self._dirty:
            try:
                if self._taken_in:
                    # Where a sync of the tail failed before the crash, only what is written again is synced at all.
                    self._write_anew(self.safe, self.offset)
                os.fdatasync(self._descriptor)
            except OSError:
                self._abandon()
                raise
            self._dirty = self._taken_in = False

    def rotate(self, target: Path) -> bool:
        """Call the file *target* from now on, and begin a new one at the path. False: as in ``append``.

        To be called when everything is on disk and remembered. On OSError it has the name that it had; if even that
        was refused, the new one, and is written to under it.
        """
        if not self._is_ours():
            return False
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        path, old = real(self.path), (self._descriptor, self.inode, self.offset)
        path.rename(target)
        try:
            self._create()
        except OSError:
            self._descriptor, self.inode, self.offset = old
            self.safe = self.offset
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

    def chmod(self, mode: int) -> None:
        """It has this mode from now on, and so has whichever file is begun in its place."""
        self._mode = mode
        if self._descriptor >= 0:
            self._apply_mode(os.fstat(self._descriptor))

    def close(self) -> None:
        """Let go of the file; harmless when it is closed."""
        descriptor, self._descriptor = self._descriptor, -1
        self._dirty = self._taken_in = False
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
            self.safe = status.st_size
            self._start_at_end(status.st_size)
        except OSError:
            self.close()
            raise
        self.inode = status.st_ino

    def _begin_anew(self) -> None:
        self.lost = True
        self.offset = self.safe
        self._create()  # while the folder is missing too, this is tried again and again; what is true is told
        self._tell(f"{self.path}: was removed; a new one begins")

    def _apply_mode(self, status: os.stat_result) -> None:
        if stat.S_IMODE(status.st_mode) != self._mode:
            with contextlib.suppress(PermissionError):  # an existing file of another owner that we may write
                os.fchmod(self._descriptor, self._mode)

    def _start_at_end(self, size: int) -> None:
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(memoryview(b"\n"), size)
            self._dirty = True
            size += 1
        self.sync()
        self.safe = self.offset = size

    def _take_in(self, size: int, take: Callable[[bytes], None] | None) -> None:
        end = self.offset
        for line in whole_lines(self._descriptor, end):
            end += len(line) + 1
            if take is not None:
                take(line)
        if end < size:
            # A line that is only torn is no news after a crash.
            if not is_torn(os.pread(self._descriptor, _HEAD, end)):
                self._tell(f"{self.path}: {size - end} bytes past offset {end} are no lines of ours: cut")
            os.ftruncate(self._descriptor, end)
        self.offset = end
        self._dirty = self._taken_in = True  # the tail may never have been brought to disk

    def _write_anew(self, start: int, end: int) -> None:
        while start < end and (block := os.pread(self._descriptor, min(_BLOCK, end - start), start)):
            self._write(memoryview(block), start)
            start += len(block)

    def _is_ours(self) -> bool:
        if self._descriptor < 0 and not self._return():
            return False
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            self.close()
            self._begin_anew()
            return False
        if status.st_size != self.offset:
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
        # would show lines that are not there. So nothing past what is safe is believed: it is cut, and written anew.
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_size > self.safe:
                os.ftruncate(self._descriptor, self.safe)
        self.offset = self.safe
        self._dirty = False
        self.lost = True
        with contextlib.suppress(OSError):
            self.close()

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
