"""The spool folder: its rights, its files, and the lock against a second engine.

The folder is 0700 and the files are 0600, whatever the umask. A name is only on disk when the folder
that holds it was synced too, so whatever is created here syncs its folder. The lock is an flock on a
file that is never removed: it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path

from mcmt.errors import SpoolLocked, SpoolUnusable

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_LOCK = "lock"
_ORPHANS_END = 5.0
_ORPHANS_LOOK = 0.02


def prepare_folder(path: Path) -> None:
    """Create the folder or check that it is ours alone. Raises SpoolUnusable saying what to do."""
    try:
        if not path.exists():
            path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            sync_folder(path.parent)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise SpoolUnusable(f"the spool {path} is not a folder; name a folder of its own in spool.path")
        if status.st_uid != os.geteuid():
            raise SpoolUnusable(
                f"the spool folder {path} belongs to user id {status.st_uid} and the engine runs as {os.geteuid()};"
                " chown the folder or run the engine as its owner"
            )
        if stat.S_IMODE(status.st_mode) != FOLDER_MODE:
            if fault := folder_of_others(path):
                raise SpoolUnusable(f"the spool folder {path} {fault}")
            path.chmod(FOLDER_MODE)
    except OSError as error:
        raise SpoolUnusable(f"cannot use the spool {path}: {error.strerror}; check path and rights") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise SpoolUnusable(f"the spool folder {path} cannot be written; check its rights and how it is mounted")


def folder_of_others(path: Path) -> str:
    """Why *path* is not to be closed to everybody else: it is open and in use, as /tmp is. Empty where it may be."""
    try:
        if stat.S_IMODE(path.stat().st_mode) == FOLDER_MODE or (path / _LOCK).exists():
            return ""
        # The top of a file system of its own is as mkfs made it.
        others = sorted({entry.name for entry in path.iterdir()} - {"lost+found"})
    except OSError:  # absent, or not to be looked into: whoever uses it is told
        return ""
    if not others:
        return ""
    return (
        f"holds other things ({', '.join(others[:3])}{', ...' if others[3:] else ''}) and is open to others:"
        " name a folder of its own in spool.path, or chmod 0700 it"
    )


def create_file(path: Path) -> None:
    """Make sure that the file exists, readable for us alone. SQLite gives its own side files the same rights."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        if stat.S_IMODE(path.stat().st_mode) != FILE_MODE:
            path.chmod(FILE_MODE)
        sync_folder(path.parent)
    except OSError as error:
        raise SpoolUnusable(f"cannot write {path}: {error.strerror}; check rights and free space") from error


def write_file(path: Path, content: bytes) -> None:
    """Have *content* be all that the file holds, readable for us alone, on disk when this returns: a crash leaves the
    old file or the new one. Raises SpoolUnusable."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SpoolUnusable(f"cannot write {path}: {error.strerror}; check rights and free space") from error


def remove_file(path: Path) -> None:
    """Have no such file, on disk when this returns. Raises SpoolUnusable."""
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise SpoolUnusable(f"cannot remove {path}: {error.strerror}; check its folder's rights") from error


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk (fsync(2): a file's own fsync does not)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderLock:
    """Held by one engine; the file names its pid for whoever comes second."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def acquire(cls, folder: Path) -> FolderLock:
        """Take the lock. Raises SpoolLocked with the holder's pid, or SpoolUnusable."""
        path = folder / _LOCK
        create_file(path)
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _flock(handle)
        except BlockingIOError:
            holder = _holder(handle) or "unknown"
            os.close(handle)
            raise SpoolLocked(
                f"the spool {folder} is in use by another engine, pid {holder};"
                " stop that one or name another spool.path"
            ) from None
        except OSError as error:
            os.close(handle)
            raise SpoolUnusable(f"cannot lock {path}: {error.strerror}; the spool needs a local file system") from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            os.close(handle)
            raise SpoolUnusable(f"cannot write {path}: {error.strerror}; free some space") from error
        return cls(handle)

    @property
    def handle(self) -> int:
        """The descriptor. A process that inherits it holds the lock too, until its own end."""
        return self._handle

    def release(self) -> None:
        """Let go."""
        os.close(self._handle)


def _flock(handle: int) -> None:
    """Take the lock. Raises BlockingIOError when another engine has it."""
    until = time.monotonic() + _ORPHANS_END
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The workers of an engine that was killed hold its lock until they are gone too, which is a moment later.
            if time.monotonic() > until or _lives(_holder(handle)):
                raise
            time.sleep(_ORPHANS_LOOK)
        else:
            return


def _holder(handle: int) -> str:
    return os.pread(handle, 32, 0).decode("ascii", "replace").strip()


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        pass
    return True
