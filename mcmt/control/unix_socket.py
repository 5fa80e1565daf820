"""UNIX sockets by path: made so that only their owner can connect, and found again.

A path longer than the system's limit (108 bytes on Linux, unix(7)) goes by way of its folder's descriptor, where /proc
has that. Rules: synchronous, a few system calls; every failure is a ControlError that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from mcmt.errors import ControlError

_LIMIT = 100
"""Bytes of a path that every system takes, with room for the suffix of a socket that is being made."""
_ANSWER_TIMEOUT = 1.0
_BACKLOG = 32


def bind_unix(path: Path) -> tuple[socket.socket, int]:
    """A listening socket at *path*, mode 0600, and its inode. The socket of a dead engine is replaced.

    Raises ControlError: an engine answers there, something else stands there, or the path cannot be had.
    """
    _refuse_what_lives(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        made.unlink(missing_ok=True)
        with _short(made) as address:
            listening.bind(address)
        made.chmod(0o600)
        inode = made.stat().st_ino
        # Nobody can connect before this, and by then the mode is right.
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        made.rename(path)
    except OSError as error:
        listening.close()
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
        raise ControlError(
            f"{path}: the control socket cannot be made: {error.strerror or error}: "
            "make its folder writable, or name another path in control.socket"
        ) from error
    return listening, inode


def connect_unix(path: Path, timeout: float) -> socket.socket:
    """A socket connected to *path*. Raises ControlError that says why it cannot be had and what to do."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout)
    try:
        with _short(path) as address:
            connected.connect(address)
    except OSError as error:
        connected.close()
        raise ControlError(_why_not(path, error)) from error
    return connected


def unlink_if_same(path: Path, inode: int) -> None:
    """Remove the socket at *path* if it is still the one with *inode*, not that of an engine started since."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _refuse_what_lives(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path}: is there and is no socket: remove it, or name another path in control.socket")
    try:
        connect_unix(path, _ANSWER_TIMEOUT).close()
    except ControlError as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            return
        raise ControlError(f"{path}: is there and cannot be taken over: {error.__cause__}") from error
    raise ControlError(f"{path}: another engine answers there: stop it, or name another path in control.socket")


def _why_not(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ECONNREFUSED | errno.ENOTDIR:
            return (
                f"{path}: no engine answers there: start one with mcmt serve, or name its configuration with --config"
            )
        case errno.EACCES | errno.EPERM:
            return f"{path}: {error.strerror}: run this as the user that the engine runs as"
    return f"{path}: the engine cannot be reached: {error.strerror or error}"


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for *path* that fits into the system's limit."""
    if len(os.fsencode(path)) <= _LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
