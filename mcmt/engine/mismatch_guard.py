"""Keeps a wrong environment from being taken for ten thousand dead tokens.

When a route's certificate or key belongs to the other environment (sandbox, production) or to another
app, the gateway refuses every device token, in the same words as for a dead one. So answers that a
channel marks as suspect are not believed by themselves: a delivery that was accepted within ``WINDOW``
vouches for them; without one they are held for ``HOLD`` seconds, and when ``THRESHOLD`` distinct tokens
have been refused and none was accepted, the guard trips: the route is suspended, nothing that was held
is failed, and nobody is bounced.

In memory: after a restart what was held is due again, and the gateway says the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mcmt.clock import Clock
from mcmt.message.model import Delivery
from mcmt.message.status import Outcome

THRESHOLD = 20
"""Distinct tokens refused, and none accepted."""
WINDOW = 600.0
"""Seconds for which an accepted delivery vouches for the route, and refused tokens are remembered."""
HOLD = 60.0
"""Seconds for which a suspect answer waits for one that explains it."""

Answered = tuple[Delivery, Outcome]


class MismatchGuard:
    """The suspect answers of one domain."""

    def __init__(self, clock: Clock, tell: Callable[[Literal["accepted", "refused"], str], None] | None = None) -> None:
        """*tell*: the other engines, of the first delivery accepted in a while, and of each token refused."""
        self._clock = clock
        self._tell = tell or (lambda _kind, _token: None)
        self._accepted_at: float | None = None
        self._told_at: float | None = None
        self._trusted = False
        self._tokens: dict[str, float] = {}
        self._held: list[tuple[float, Answered]] = []
        self.tripped = False

    @property
    def held(self) -> int:
        """Answers that are neither believed nor disbelieved yet."""
        return len(self._held)

    @property
    def remembers(self) -> bool:
        """There is something in it that may matter to the domain's next deliveries."""
        return self._trusted or self._accepted_at is not None or bool(self._tokens)

    def accepted(self) -> None:
        """The gateway took a delivery: the route is right, and whom it refuses it refuses for good."""
        now = self._clock.monotonic()
        if self._told_at is None or now - self._told_at >= WINDOW / 4:
            self._told_at = now
            self._tell("accepted", "")
        self._accept(now)

    def heard(self, kind: str, token: str) -> None:
        """What another engine tells of the same domain: as if it had happened here."""
        now = self._clock.monotonic()
        if kind == "accepted":
            self._accept(now)
        elif len(self._tokens) < THRESHOLD:
            self._tokens.setdefault(token, now)

    def _accept(self, now: float) -> None:
        self._accepted_at = now
        self._tokens.clear()
        self.tripped = False

    def trust(self) -> None:
        """The operator says that the route is right: believe every refusal until the engine is started anew."""
        self._trusted = True
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was refused before does not count any more."""
        self._tokens.clear()
        self.tripped = False

    def examine(self, suspects: Sequence[Answered]) -> tuple[Sequence[Answered], Sequence[Answered]]:
        """Divide suspect answers: those to believe now, and those that the tripped guard gives back unsettled.

        What is in neither is held; ``overdue`` brings it when its time is up.
        """
        now = self._clock.monotonic()
        if self._trusted or (self._accepted_at is not None and now - self._accepted_at < WINDOW):
            return [*self._release(), *suspects], ()
        for delivery, _ in suspects:
            if len(self._tokens) < THRESHOLD and delivery.token not in self._tokens:
                self._tokens[delivery.token] = now
                self._tell("refused", delivery.token)
        self._held += [(now, answered) for answered in suspects]
        self._forget(now)
        if len(self._tokens) >= THRESHOLD:
            self.tripped = True
        return (), self._release() if self.tripped else ()

    def overdue(self) -> Sequence[Answered]:
        """Answers that waited long enough: too few were refused to doubt the route."""
        now = self._clock.monotonic()
        due = [answered for since, answered in self._held if now - since >= HOLD]
        self._held = self._held[len(due) :]
        return due

    def _release(self) -> Sequence[Answered]:
        held, self._held = self._held, []
        return [answered for _, answered in held]

    def _forget(self, now: float) -> None:
        # Tripped, it stays so until a delivery is accepted, however long nobody asks.
        if not self.tripped:
            self._tokens = {token: since for token, since in self._tokens.items() if now - since < WINDOW}
