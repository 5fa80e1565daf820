"""What an error packet's status means for the notification that it names, and how outcomes are worded.

Source: Apple, "Binary Provider API", codes in error-response packet. Whatever the status, what was sent before the
named notification was taken and what was sent after it was discarded; with SHUTDOWN the named one was taken as well.
"""

from __future__ import annotations

from typing import Final

from mcmt.message.status import Disposition, Outcome
from mcmt.wire.apns_binary import WORDS, ErrorPacket, Status

from .window import Entry

RULES: Final[dict[int, Disposition]] = {  # but SHUTDOWN, which names what was taken
    Status.NO_ERROR: Disposition.AMBIGUOUS,  # an error that is none: nobody knows what became of it
    Status.PROCESSING_ERROR: Disposition.TRANSIENT,
    Status.MISSING_TOKEN: Disposition.PERMANENT,
    Status.MISSING_TOPIC: Disposition.ROUTE_FAULT,  # the topic is the certificate's
    Status.MISSING_PAYLOAD: Disposition.PERMANENT,
    Status.TOKEN_SIZE: Disposition.PERMANENT,
    Status.TOPIC_SIZE: Disposition.ROUTE_FAULT,
    Status.PAYLOAD_SIZE: Disposition.PERMANENT,
    Status.INVALID_TOKEN: Disposition.RECIPIENT_GONE,
    Status.PROTOCOL_ERROR: Disposition.TRANSIENT,
    Status.UNKNOWN: Disposition.TRANSIENT,
}
_OTHER: Final = Disposition.TRANSIENT
"""Of a status that Apple's table does not have: what cannot be understood is temporary."""

WRONG_SIZE: Final = Outcome(
    disposition=Disposition.PERMANENT, code=str(int(Status.TOKEN_SIZE)), text=WORDS[Status.TOKEN_SIZE]
)
"""Of a token that no gateway takes: sending it would cost the connection and say the same."""


def words_of(packet: ErrorPacket) -> str:
    """``8 Invalid Token``"""
    return f"{packet.status} {WORDS.get(packet.status, 'Unknown Status')}"


class Wording:
    """Makes the outcomes of one connection."""

    def __init__(self, remote_address: str) -> None:
        self._remote_address = remote_address

    def delivered(self, identifier: int, entry: Entry, now: float) -> Outcome:
        """The gateway was silent, or named a later one."""
        return self._outcome(Disposition.DELIVERED, "", "", identifier, entry, now)

    def named(self, packet: ErrorPacket, entry: Entry, now: float) -> Outcome:
        """The one that the packet names."""
        status = packet.status
        text = WORDS.get(status, "Unknown Status")
        return self._outcome(RULES.get(status, _OTHER), str(status), text, packet.identifier, entry, now)

    def discarded(self, identifier: int, entry: Entry, now: float, text: str, wait: float = 0.0) -> Outcome:
        """It was sent behind the one that an error packet named. *wait*: seconds before anything is sent again."""
        return self._outcome(Disposition.REFUSED, "451", f"4.4.2 [internal] {text}", identifier, entry, now, wait)

    def ambiguous(self, identifier: int, entry: Entry, now: float, text: str) -> Outcome:
        """The connection ended, and nothing tells what became of it."""
        return self._outcome(Disposition.AMBIGUOUS, "451", f"4.4.2 [internal] {text}", identifier, entry, now)

    def fault(self, identifier: int, entry: Entry, now: float, text: str) -> Outcome:
        """The route is at fault, and nothing was taken."""
        return self._outcome(Disposition.ROUTE_FAULT, "451", f"4.4.2 [internal] {text}", identifier, entry, now)

    def _outcome(
        self,
        disposition: Disposition,
        code: str,
        text: str,
        identifier: int,
        entry: Entry,
        now: float,
        wait: float = 0.0,
    ) -> Outcome:
        _, sent_at, size, _ = entry
        return Outcome(
            disposition=disposition,
            code=code,
            text=text,
            remote_id=str(identifier),
            remote_address=self._remote_address,
            size=size,
            duration=now - sent_at,
            retry_after=wait,
            # Said of every token as well when the certificate is for the other environment or another app.
            suspect=disposition is Disposition.RECIPIENT_GONE,
        )
