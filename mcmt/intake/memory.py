"""How much of messages the sessions hold together: ``max_intake_bytes``.

Rules: a session asks before it keeps octets, and gives back what it asked for when the message is in the spool or
refused. An octet counts ``INTAKE_COPIES`` times from the beginning, so what is needed later is there when it is needed:
measured, a message holds 2 octets for each of its own while it is joined and written. Not counted: the buffers of
connections, which ``max_connections`` bounds (idle 8 KB each, with TLS 52 KB; some 400 KB while a client sends faster
than it is read), and what taking apart needs for a moment, since that happens to one message at a time (4 octets for
one in base64, 10 at worst).
"""

from __future__ import annotations

from collections.abc import Callable

from mcmt.config.settings import INTAKE_COPIES
from mcmt.errors import MessageError


class IntakeMemory:
    """One allowance for all sessions."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """Bytes, copies counted."""
        self._waiting: list[Callable[[], None]] = []

    def fits(self, octets: int) -> bool:
        """Whether a message of that size could be kept now."""
        return self.held + INTAKE_COPIES * octets <= self.limit

    def take(self, octets: int) -> bool:
        """Keep that many octets of a message, or with a negative number give so many back.

        False when there is no room, and nothing was taken.
        """
        held = self.held + INTAKE_COPIES * octets
        if octets > 0 and held > self.limit:
            return False
        self.held = held
        if octets < 0 and self._waiting:
            self._tell()
        return True

    def give_back(self, octets: int) -> None:
        """These are not held any more."""
        self.held -= INTAKE_COPIES * octets
        if octets and self._waiting:
            self._tell()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call *go_on* once, when something was given back: for a door that reads on later instead of refusing."""
        self._waiting.append(go_on)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()


def no_room() -> MessageError:
    """What a client is told whose message does not fit (RFC 5321 4.2.3: 452; RFC 3463: X.3.1 mail system full)."""
    return MessageError(452, "4.3.1", "too many messages are being received (max_intake_bytes); try again later")
