"""The users file: who may log in, one ``name:password`` a line, the password as mcmt/intake/passwords.py stores it.

Rules: empty lines and lines that begin with ``#`` stay as they are; a change is atomic and on disk when it is said to
be made; a running listener reads the file again when it has changed, and keeps what it knew when it cannot.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mcmt.errors import McmtError
from mcmt.intake.passwords import StoredPassword, parse

log = logging.getLogger(__name__)

MAX_SIZE: Final = 16 * 1024**2
"""Bytes of a users file, some 100,000 users. A larger one is taken for a mistake."""
MODE: Final = 0o600
_NAME = re.compile(r"[^\s:#\x00-\x1f\x7f][^\s:\x00-\x1f\x7f]{0,254}")


class UsersError(McmtError):
    """A users file cannot be used; the text names it, the line, and what to do."""


def check_name(name: str) -> str:
    """*name*, which can be a user's. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 255 characters, no blanks and no colon, and does not begin with #")
    return name


def read_users(file: Path) -> dict[str, StoredPassword]:
    """Everyone in *file*. Raises UsersError."""
    return _parse(file, _read(file))


def change_user(file: Path, name: str, password: StoredPassword | None) -> bool:
    """Set the password of *name*, or with None delete it; whether *name* was there before.

    What else is in the file stays. The file is made, mode 0600, when it does not exist. Raises UsersError: nothing was
    changed.
    """
    file = file.resolve()
    try:
        with _locked(file.parent) as folder:
            text = _read(file) if file.exists() else ""
            known = name in _parse(file, text)
            if password is None and not known:
                return False
            _write(file, _changed(text, name, password), folder)
            return known
    except OSError as error:
        raise UsersError(
            f"{file} cannot be changed: {error.strerror or error}; check the rights of its folder"
        ) from error


class UsersFile:
    """A users file that others may change."""

    def __init__(self, file: Path) -> None:
        """Raises UsersError: it cannot be read."""
        self._file = file
        self._version = self._look()
        self._users: Mapping[str, StoredPassword] = read_users(file)

    def users(self) -> Mapping[str, StoredPassword]:
        """Everyone in the file as it is now; the same object as long as it has not changed."""
        version = self._look()
        if version != self._version:
            # Looked at before it is read: what changes meanwhile is read next time.
            self._version = version
            try:
                self._users = read_users(self._file)
            except UsersError as error:
                log.error("%s; the users known before stay", error)
        return self._users

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._file.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_SIZE:
            raise UsersError(f"{file} is larger than {MAX_SIZE} bytes; it is not a users file")
        return file.read_bytes().decode()
    except OSError as error:
        advice = "make it with: mcmt passwd" if isinstance(error, FileNotFoundError) else "check its rights"
        raise UsersError(f"{file} cannot be read: {error.strerror or error}; {advice}") from error
    except UnicodeDecodeError:
        raise UsersError(f"{file} is not UTF-8") from None


def _entries(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            name, _, stored = line.partition(":")
            yield number, name, stored.strip()


def _parse(file: Path, text: str) -> dict[str, StoredPassword]:
    users: dict[str, StoredPassword] = {}
    for number, name, stored in _entries(text):
        try:
            check_name(name)
            if name in users:
                raise ValueError(f"{name} is there twice; keep one of the two")
            users[name] = parse(stored)
        except ValueError as error:
            raise UsersError(f"{file}:{number}: {error}") from None
    return users


def _changed(text: str, name: str, password: StoredPassword | None) -> str:
    lines = text.removesuffix("\n").split("\n") if text else []
    entry = [] if password is None else [f"{name}:{password}"]
    for number, found, _ in _entries(text):
        if found == name:
            lines[number - 1 : number] = entry
            break
    else:
        lines += entry
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Keep other changes out of *folder* meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(file: Path, text: str, folder: int) -> None:
    before = file.stat() if file.exists() else None
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as new:
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode) if before else MODE)
            if before and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                # The engine that reads it may be another user.
                os.fchown(descriptor, before.st_uid, before.st_gid)
            new.write(text)
            new.flush()
            os.fsync(descriptor)
        Path(name).rename(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    os.fsync(folder)
