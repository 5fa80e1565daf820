"""Tokens that are known to be gone, as a message comes in (``suppress_gone_tokens``).

A delivery to such a token ends at once, with a permanent failure of our own, unless the message says that the token was
registered since the gateway gave it up: then it is sent, and the table lets the token go.

Rules: a table that cannot be read suppresses nothing, and no message waits for it; what the gateway thinks of a token
it can still say itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import msgspec

from mcmt.clock import Clock
from mcmt.errors import SpoolError
from mcmt.intake.reminder import Reminder
from mcmt.message.event import REGISTERED, Event, Kind
from mcmt.message.failure import INTERNAL
from mcmt.spool.port import GoneTokens

log = logging.getLogger(__name__)

CODE = "550"
"""Of the failure of a suppressed delivery."""


class Dead(msgspec.Struct, frozen=True, gc=False):
    """A token that is in the table of those that are gone."""

    since: float
    """As the gateway said, seconds since the epoch."""
    registered: float
    """When it was registered last, as the message says; 0: it does not say."""

    @property
    def suppressed(self) -> bool:
        """Nothing is sent to it."""
        return self.registered <= self.since

    @property
    def text(self) -> str:
        """Of the failure. RFC 3463 5.1.6: the mailbox has moved, and nobody knows where."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return f"5.1.6 {INTERNAL} device token gone since {at}"

    def event(self, known: Event) -> Event:
        """What there is to tell of the delivery *known*: that it failed, or that its token is registered again."""
        if self.suppressed:
            return msgspec.structs.replace(known, code=CODE, text=self.text, gone_since=self.since)
        return Event(
            kind=Kind.TOKEN,
            time=known.time,
            id=known.id,
            batch_id=known.batch_id,
            channel=known.channel,
            domain=known.domain,
            token=known.token,
            text="the sender says so",
            phase=REGISTERED,
            protocol=known.protocol,
            gone_since=self.registered,
        )


class Suppression:
    """Looks up the tokens of messages. From the event loop, and from the thread where large messages are read."""

    def __init__(self, tokens: GoneTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._reminder = Reminder(clock)

    def among(self, domain: str, tokens: Sequence[str]) -> Mapping[str, float]:
        """Those of *tokens* that are in the table, and since when they are gone."""
        try:
            found = self._tokens.since(domain, [token.lower() for token in tokens])
        except SpoolError as error:
            if times := self._reminder.count():
                log.error("%d messages were not held against the gone tokens: %s", times, error)
            return {}
        if not found:
            return {}
        return {token: found[lower] for token in tokens if (lower := token.lower()) in found}
