"""From what became of a request to its Outcome."""

from __future__ import annotations

from mcmt.clock import Clock
from mcmt.errors import ProtocolError
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.header_block import decode_headers

from .answers import After, Answer, retry_after

Pending = tuple[Delivery, str, float, int]
"""A request on its way: the delivery, its apns-id, when it was sent (monotonic), its size in bytes."""


def answered(
    pending: Pending, answer: Answer, disposition: Disposition, wait: float, remote_address: str, now: float
) -> Outcome:
    """The outcome of an answer that came at *now* (monotonic seconds)."""
    _, apns_id, sent_at, size = pending
    return Outcome(
        disposition=disposition,
        code=answer.status,
        text=answer.reason,
        remote_id=apns_id,
        remote_address=remote_address,
        size=size,
        duration=now - sent_at,
        retry_after=wait,
        suspect=After.SUSPECT in answer.rule.after,
        gone_since=answer.gone_since,
    )


def unanswered(pending: Pending, text: str, remote_address: str, now: float, *, refused: bool) -> Outcome:
    """The outcome when no answer came; *refused*: it is known not to have been processed."""
    _, apns_id, sent_at, size = pending
    return Outcome(
        disposition=Disposition.REFUSED if refused else Disposition.AMBIGUOUS,
        code="451",
        text=f"4.4.2 [internal] {text}",
        remote_id=apns_id,
        remote_address=remote_address,
        size=size,
        duration=now - sent_at,
    )


def wait_asked_for(block: bytes, clock: Clock) -> float:
    """Seconds that the answer's Retry-After asks for; 0 when there is none that can be read."""
    try:
        fields = dict(decode_headers(block))
    except ProtocolError:
        return 0.0  # the status was read; a field behind it that was not takes nothing from it
    return retry_after(fields.get("retry-after"), clock.time())
