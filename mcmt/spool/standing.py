"""The contract of whatever knows what became of messages, for doors whose clients may ask.

Beside port.py: a keeper that has none of this keeps messages as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from mcmt.errors import SpoolError
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.port import Entry


class Once(msgspec.Struct, frozen=True):
    """What makes a message that is sent again the same message."""

    key: str
    fingerprint: bytes
    """Of all that was sent: another one under the same key is a mistake of the sender's."""


class Known(msgspec.Struct, frozen=True):
    """What is kept of a message whose sender may ask about it (mcmt/message/event.py, TRACKED)."""

    batch_id: str
    fingerprint: bytes
    """Of its ``Once``; empty: it had none."""
    sender: str
    """Who had logged in."""
    deliveries: int
    received: float
    """Seconds since the epoch."""


class Ended(msgspec.Struct, frozen=True):
    """How a delivery ended."""

    number: int
    recipient: str
    token: str
    time: float
    """Seconds since the epoch."""
    delivered: bool
    code: str
    text: str
    remote_id: str


class Standing(msgspec.Struct, frozen=True):
    """Where a message stands: each of its deliveries has ended or is pending."""

    known: Known
    ended: Sequence[Ended]
    pending: Sequence[Entry]


class Tracker(Protocol):
    """What a door needs whose clients may ask, and send again what they had no answer to."""

    async def accept_once(
        self,
        once: Once,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> Known:
        """As ``Keeper.accept``, unless a message was kept under the same key: then nothing is kept. The one that is
        kept under the key, which may have been sent by the same client only.

        The key goes with the message in one transaction, so whatever crashes, a key that is known has its message.
        Keys are known for ``status_retention``."""

    async def standing(self, batch_id: str, after: int, limit: int) -> Standing | None:
        """Where a message stands, of which up to *limit* deliveries that ended and as many that are pending are told,
        with numbers past *after*. None: it is not known, or not any more."""


class Keyed(NamedTuple):
    """A message and the key under which it is kept: ``Keeper.accept``'s arguments behind it."""

    once: Once
    message: Message
    deliveries: Sequence[NewDelivery]
    events: Sequence[Event]
    failures: Sequence[Failure]


class JobKeeper(Protocol):
    """What a source of jobs needs that may come again: their keys are known as long as they may.

    Of this process's own shard, and for one caller a key. Every coroutine raises SpoolError."""

    async def accept_each(self, given: Sequence[Keyed]) -> Sequence[SpoolError | None]:
        """Keep each message with its key in one transaction; what kept one from being kept, None where nothing did."""

    async def keys(self, prefix: str) -> Mapping[Once, float]:
        """The keys that begin with *prefix* and are known, and when each one's message was received, seconds since the
        epoch."""

    def forget(self, keys: Sequence[str]) -> None:
        """These are not wanted any more. Returns at once; a crash may bring them back."""
