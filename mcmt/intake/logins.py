"""Names and passwords of clients, held against a users file without making anybody else wait.

Rules: scrypt is computed in one thread of low priority, so a flood of guesses costs deliveries nothing but what is left
over; who is not in the file costs as much as who is; a password that was right is known by a keyed digest for as long
as the file does not change, so that clients which log in for every message do not pay for it every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from mcmt.errors import McmtError
from mcmt.intake import limits
from mcmt.intake.failures import FailureBudget
from mcmt.intake.passwords import HASH, SALT, N, P, R, StoredPassword, prepare
from mcmt.intake.users import UsersFile

_NICENESS = 10
_NOBODY = StoredPassword(N, R, P, bytes(SALT), bytes(HASH))


class LoginsBusyError(McmtError):
    """Too many passwords wait to be computed."""


class PasswordThread:
    """The thread that computes, and how many passwords may wait for it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "passwords", initializer=_lower_priority)
        self._pending = 0

    async def matches(self, stored: StoredPassword, password: str) -> bool:
        """``stored.matches(password)``. Raises LoginsBusyError."""
        if self._pending >= limits.AUTH_PENDING:
            raise LoginsBusyError("too many passwords wait to be computed")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, stored.matches, password)
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Compute no more. Who still waits is told nothing: call it when the sessions have ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Logins:
    """Who may log in by one users file."""

    def __init__(self, file: UsersFile, failures: FailureBudget, thread: PasswordThread, secret: bytes) -> None:
        """*secret*: 32 random octets, for the digests."""
        self.failures = failures
        """The budget of whoever logs in here."""
        self._file = file
        self._thread = thread
        self._secret = secret
        self._users: Mapping[str, StoredPassword] = {}
        self._known: dict[bytes, None] = {}
        """Digests of what was right, oldest first."""
        self._computing: dict[bytes, asyncio.Future[bool]] = {}

    async def check(self, name: str, password: str) -> bool:
        """Whether *name* has that password. Raises LoginsBusyError: it is not known."""
        users = self._file.users()
        if users is not self._users:
            self._users = users
            self._known.clear()
            self._computing.clear()
        try:
            password = prepare(password)
        except ValueError:
            # Nobody's password, and as much work as one that could be.
            name = password = ""
        digest = self._digest(name, password)
        if digest in self._known:
            return True
        computing = self._computing.get(digest)
        if computing is None:
            # Several connections of one client log in at once: one computation serves them.
            computing = asyncio.ensure_future(self._compute(users, name, password, digest))
            self._computing[digest] = computing
        return await asyncio.shield(computing)

    async def _compute(self, users: Mapping[str, StoredPassword], name: str, password: str, digest: bytes) -> bool:
        try:
            right = await self._thread.matches(users.get(name, _NOBODY), password) and name in users
        finally:
            if users is self._users:
                self._computing.pop(digest, None)
        if right and users is self._users:
            while len(self._known) >= limits.AUTH_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[digest] = None
        return right

    def _digest(self, name: str, password: str) -> bytes:
        return hashlib.blake2b(f"{name}\0{password}".encode(), key=self._secret, digest_size=32).digest()


def _lower_priority() -> None:
    # Linux gives every thread a niceness of its own (setpriority(2), NOTES).
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
