"""How many logins of each client have failed lately: the budget against guessing.

Rules: a login counts as failed from its beginning until it is known to be right, so that many at once get no more
guesses than one after another; memory is bounded (limits.AUTH_ADDRESSES).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mcmt.clock import Clock
from mcmt.intake import limits


class Login(msgspec.Struct, frozen=True, tag="login"):
    """What one process tells the others of the logins of a client: one more begun, or one of them was right."""

    client: str
    right: bool


class FailureBudget:
    """Counts by client (``mcmt.intake.door.client_of``), each within a window that its first failure begins."""

    def __init__(self, allowed: int, window: float, clock: Clock, tell: Callable[[Login], None] | None = None) -> None:
        """*tell*: the other processes that take logins for the same listener."""
        self._tell = tell
        self._allowed = allowed
        self._window = window
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}
        """End of the window and failures in it, those that failed first first."""

    def __len__(self) -> int:
        return len(self._counts)

    def reload(self, allowed: int, window: float) -> None:
        """Other limits hold; a window that has begun ends when it was to end."""
        self._allowed = allowed
        self._window = window

    def is_spent(self, client: str) -> bool:
        """Whether no further login of *client* is to be tried now."""
        end, failures = self._counts.get(client, (0.0, 0))
        return failures >= self._allowed and self._clock.monotonic() < end

    def heard(self, login: Login) -> None:
        """What another process tells."""
        if login.right:
            self._give_back(login.client)
        else:
            self._spend(login.client)

    def spend(self, client: str) -> None:
        """A login of *client* begins."""
        self._spend(client)
        if self._tell is not None:
            self._tell(Login(client, False))

    def _spend(self, client: str) -> None:
        now = self._clock.monotonic()
        end, failures = self._counts.get(client, (0.0, 0))
        if now >= end:
            self._counts.pop(client, None)
            end, failures = now + self._window, 0
            while len(self._counts) >= limits.AUTH_ADDRESSES:
                del self._counts[next(iter(self._counts))]
        self._counts[client] = (end, failures + 1)

    def give_back(self, client: str) -> None:
        """That login was right, or was not tried after all."""
        self._give_back(client)
        if self._tell is not None:
            self._tell(Login(client, True))

    def _give_back(self, client: str) -> None:
        end, failures = self._counts.get(client, (0.0, 0))
        if failures > 1:
            self._counts[client] = (end, failures - 1)
        else:
            self._counts.pop(client, None)
