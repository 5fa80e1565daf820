"""A connection as its queue knows it: what it took, what it owes, and whether it is worth another one.

The link is the Report that a channel's connection speaks to; it counts and passes on, and decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from mcmt.channel.port import Connection
from mcmt.clock import Clock
from mcmt.engine.leases import Leases
from mcmt.engine.route_health import RouteHealth
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.trace import Trace

log = logging.getLogger(__name__)

_UNANSWERED = frozenset({Disposition.REFUSED, Disposition.AMBIGUOUS})
_FORGOTTEN = Outcome(
    disposition=Disposition.AMBIGUOUS, code="451", text="4.3.0 [internal] the channel ended without an outcome"
)


class LinkOwner(Protocol):
    """What a link tells, and whom."""

    def answered(self, link: Link, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Outcomes came."""

    def has_room(self, link: Link) -> None:
        """The connection asks for more."""

    def ended(self, link: Link, reason: str) -> None:
        """The connection is closed; nothing is owed on it any more."""

    def may_connect(self) -> bool:
        """Another connection may be opened, where the limit forbade it before; whether one is still wanted."""


class Link:
    """One connection of a domain, from the attempt to open it to its end."""

    def __init__(
        self,
        owner: LinkOwner,
        health: RouteHealth,
        leases: Leases,
        clock: Clock,
        quota: int,
        trace: Trace | None = None,
    ) -> None:
        """*leases*: whom the connection was borrowed of."""
        self._owner = owner
        self.trace = trace
        self.leases = leases
        self._clock = clock
        self._quota = quota  # max_deliveries_per_connection; 0: no limit
        self._taken = 0
        self._owed: dict[int, Delivery] = {}  # by row: taken, and not answered yet
        self.health = health
        self.connection: Connection | None = None
        self.has_ended = False
        self.is_leaving = False
        """It takes nothing more, and says so itself; what it owes may still be answered."""
        self.closing: asyncio.Task[None] | None = None
        self.warm = False
        """The gateway has answered on it."""
        self.full = False
        """It took less than was offered, the last time."""
        self.idle_since = clock.monotonic()

    @property
    def in_flight(self) -> int:
        """Deliveries taken and not answered yet."""
        return len(self._owed)

    @property
    def usable(self) -> bool:
        """Deliveries may be offered to it."""
        return self.connection is not None and self.closing is None and not (self.has_ended or self.is_leaving)

    @property
    def spent(self) -> bool:
        """It has taken as many deliveries as one connection may."""
        return bool(self._quota) and self._taken >= self._quota

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """Offer deliveries; how many were taken."""
        assert self.connection is not None  # noqa: S101 - usable was asked before
        offered = len(deliveries)
        if self._quota:
            deliveries = deliveries[: self._quota - self._taken]
        # Owed before the offer: a channel may answer from within send.
        owed = self._owed
        for delivery in deliveries:
            owed[delivery.row] = delivery
        try:
            taken = self.connection.send(deliveries) if deliveries else 0
        except Exception:
            # Which of them it took, nobody knows: at its end they count as not answered.
            log.exception("a connection failed to send: it is closed, and %d deliveries are in doubt", len(deliveries))
            self.close(0.0)
            taken = len(deliveries)
        for delivery in deliveries[taken:]:
            del owed[delivery.row]
        self._taken += taken
        self.full = taken < offered
        return taken

    def close(self, drain: float) -> None:
        """Let it answer what it owes for up to *drain* seconds, then end it."""
        if self.connection is not None and self.closing is None and not self.has_ended:
            self.closing = asyncio.get_running_loop().create_task(self._close(self.connection, drain), name="close")

    async def _close(self, connection: Connection, drain: float) -> None:
        try:
            await connection.aclose(drain)
        except Exception:
            log.exception("a connection failed to close")
            self.closed("failed to close")

    # -- the Report (mcmt.channel.port) -------------------------------------------------------------------------

    def outcomes(self, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Deliveries were answered."""
        answered = [one for one in batch if self._owed.pop(one[0].row, None) is not None]
        if len(answered) < len(batch):
            # The port promises one outcome for each; a second one would be written, and counted, as another delivery's.
            log.error("a channel answered %d deliveries that are not its own any more", len(batch) - len(answered))
            batch = answered
        if not self._owed:
            self.idle_since = self._clock.monotonic()
        if not self.warm:
            self.warm = any(outcome.disposition not in _UNANSWERED for _, outcome in batch)
        self._owner.answered(self, batch)

    def wake(self) -> None:
        """There is room again."""
        self._owner.has_room(self)

    def leaving(self) -> None:
        """It takes nothing more. Until it has ended it must not keep another one from being opened."""
        if not self.is_leaving:
            self.is_leaving = True
            self._owner.may_connect()

    def closed(self, reason: str) -> None:
        """The connection has ended."""
        if self.has_ended:
            return
        self.has_ended = True
        if self.trace is not None:
            self.trace.tell("event", "closed", reason)
        if self._owed:
            # The port promises an outcome for each; a channel that broke it must not lose them.
            log.error("a connection ended (%s) and left %d deliveries without an outcome", reason, len(self._owed))
            owed, self._owed = self._owed, {}
            self._owner.answered(self, [(delivery, _FORGOTTEN) for delivery in owed.values()])
        self._owner.ended(self, reason)
