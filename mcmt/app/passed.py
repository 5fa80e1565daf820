"""A connection that a worker was passed: who counts it is the supervisor."""

from __future__ import annotations

import logging

from mcmt.errors import BusError, MessageError
from mcmt.workers.bus import Bus
from mcmt.workers.words import Left, Move, Verdict

log = logging.getLogger(__name__)


class Passed:
    """``mcmt.intake.door.Admission`` of one connection, which the supervisor has counted for *address*, or turns away.

    The count is given back by that address and not by the session's own: of a client that has gone already a socket
    does not tell any.
    """

    def __init__(self, bus: Bus, address: str, refusal: MessageError | None) -> None:
        self._bus = bus
        self._address = address
        self._refusal = refusal
        self._left = False
        self._moving = False

    def admit(self, address: str) -> MessageError | None:  # noqa: ARG002 - the protocol's
        """See Admission."""
        return self._refusal

    def left(self, address: str = "") -> None:  # noqa: ARG002 - the protocol's
        """See Admission. Of one that was turned away, and the second time, it does nothing."""
        if self._refusal is None and not self._left:
            self._left = True
            if not self._moving:
                self._bus.tell(Left(self._address))

    async def move(self, address: str, to: str) -> MessageError | None:  # noqa: ARG002 - the protocol's
        """See Admission."""
        self._moving = True
        try:
            answer = await self._bus.call(Move(self._address, to), Verdict)
        except BusError as error:  # the supervisor is gone, and so are we soon
            log.debug("a session's address was not told: %s", error)
            return None
        finally:
            self._moving = False
        if answer.refusal is None:
            self._address = to
        if self._left:
            # Only now it is known for whom it counts.
            self._bus.tell(Left(self._address))
        return None if answer.refusal is None else MessageError(*answer.refusal)
