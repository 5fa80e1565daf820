"""From an outcome to what is written: the settlement of the delivery and the event for the log.

Pure. One table says which dispositions end a delivery, which count as an attempt, and which leave it as
it was. The texts of our own making carry ``[internal]``, so that a reader of the log can tell them from
the gateway's (Momentum's convention).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mcmt.config.settings import DomainSettings
from mcmt.engine.retry import retry_delay
from mcmt.message.event import GONE, INVALID, SOURCE_PUSH, Event, Kind
from mcmt.message.failure import Failure, return_path_of, status_of
from mcmt.message.model import Delivery
from mcmt.message.notification import DELAYED, FAILED, RELAYED, wants
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.port import Settlement

FINAL = {
    Disposition.DELIVERED: Kind.DELIVERY,
    Disposition.PERMANENT: Kind.PERMANENT,
    Disposition.RECIPIENT_GONE: Kind.PERMANENT,
}
"""The dispositions that end a delivery, and the event that tells it."""
COUNTED = frozenset({Disposition.TRANSIENT, Disposition.AMBIGUOUS})
"""An attempt was made; the schedule says when the next one is."""
KEPT = frozenset({Disposition.REFUSED, Disposition.ROUTE_FAULT})
"""No attempt was made: the delivery stays due, and writes no line of its own."""

EXPIRED = Outcome(
    disposition=Disposition.PERMANENT, code="554", text="5.4.7 [internal] exceeded max time without delivery"
)
NO_PART = Outcome(
    disposition=Disposition.PERMANENT, code="554", text="5.6.1 [internal] the message has no part for this channel"
)
"""Of a delivery whose domain had another delivery_method when it was accepted."""
_RETRIES_USED_UP = "5.4.7 [internal] exceeded max retries without delivery"
_LATE_STATUS = "4.4.7"
"""RFC 3463 3.5: delivery time expired. RFC 2852 4 names it for what is late."""
_LATE = f"{_LATE_STATUS} [internal] not delivered yet, and tried on"
_UNANSWERED = "5.4.7 [internal] no answer, and ambiguous is set to fail: it may have been delivered"


class Verdict(NamedTuple):
    """What is to be written of one outcome."""

    settlement: Settlement
    events: tuple[Event, ...]


def judge(
    delivery: Delivery,
    outcome: Outcome,
    settings: DomainSettings,
    now: float,
    random: Callable[[], float],
    not_before: float = 0.0,
    due_from: float | None = None,
) -> Verdict:
    """The verdict on an attempt whose disposition is FINAL or COUNTED, at *now* (seconds since the epoch).

    *not_before*: the earliest time of another attempt, whatever the schedule says. *due_from*: what the schedule counts
    from, where that is not *now* (steady_time.py).
    """
    if not (outcome.text.isascii() and outcome.code.isascii() and outcome.remote_id.isascii()):
        outcome = msgspec.structs.replace(
            outcome, code=storable(outcome.code), text=storable(outcome.text), remote_id=storable(outcome.remote_id)
        )
    watched = delivery.asked is not None and delivery.asked.wants(DELAYED)
    kind = FINAL.get(outcome.disposition)
    if kind is not None:
        owed = None
        if kind is Kind.PERMANENT or (delivery.asked is not None and not outcome.reports):
            # RFC 3464 2.3.3: what is gatewayed, or taken by a system that tells nobody of its success, is relayed.
            action = FAILED if kind is Kind.PERMANENT else RELAYED
            owed = _owed(delivery, outcome, settings, now, action=action)
        event = event_of(kind, delivery, outcome, settings.delivery_method, now)
        # The recipient of a mail is an address and no device token.
        if outcome.disposition is Disposition.RECIPIENT_GONE and "@" not in delivery.token:
            return Verdict(Settlement(delivery.row, failure=owed, watched=watched), (event, _gone(event, outcome)))
        return Verdict(Settlement(delivery.row, failure=owed, watched=watched), (event,))

    attempts = delivery.attempts + 1
    last = f"{outcome.code} {outcome.text}".strip()
    tried = event_of(Kind.TRANSIENT, delivery, outcome, settings.delivery_method, now)
    give_up = ""
    if settings.max_retries is not None and attempts > settings.max_retries:
        give_up = _RETRIES_USED_UP
    elif outcome.disposition is Disposition.AMBIGUOUS and settings.ambiguous == "fail":
        give_up = _UNANSWERED
    if give_up:
        failure = Outcome(
            disposition=Disposition.PERMANENT,
            code="554",
            text=give_up,
            remote_id=outcome.remote_id,
            remote_address=outcome.remote_address,
            size=outcome.size,
            duration=outcome.duration,
        )
        failed = event_of(Kind.PERMANENT, delivery, failure, settings.delivery_method, now)
        owed = _owed(delivery, failure, settings, now, last)
        return Verdict(Settlement(delivery.row, failure=owed, watched=watched), (tried, failed))

    delay = retry_delay(attempts, settings.retry_interval, settings.max_retry_interval, random)
    retry_at = max((now if due_from is None else due_from) + max(delay, outcome.retry_after), not_before)
    return Verdict(Settlement(delivery.row, retry_at, attempts, last), (tried,))


def lateness(delivery: Delivery, settings: DomainSettings, now: float) -> Failure | None:
    """What the sender of a delivery that is late is told; None where it does not want to hear of it."""
    if not wants(delivery.asked, DELAYED):
        return None
    outcome = Outcome(disposition=Disposition.TRANSIENT, code="450", text=_LATE)
    owed = _owed(delivery, outcome, settings, now, action=DELAYED)
    return None if owed is None else msgspec.structs.replace(owed, status=_LATE_STATUS, until=delivery.expires)


def storable(text: str) -> str:
    """*text* with escapes for what no UTF-8 has: a channel's words must not keep a whole burst out of the spool."""
    return text.encode(errors="backslashreplace").decode()


def _owed(
    delivery: Delivery, outcome: Outcome, settings: DomainSettings, now: float, last: str = "", action: str = FAILED
) -> Failure | None:
    """What a report is owed for; None where nobody is to hear of it."""
    if not wants(delivery.asked, action):
        return None
    return_path = return_path_of(delivery.part.headers, delivery.sender.reverse_path)
    if not (return_path and settings.generate_bounces):
        return None
    return Failure(
        number=delivery.number,
        recipient=delivery.recipient,
        token=delivery.token,
        channel=settings.delivery_method,
        code=outcome.code,
        text=outcome.text,
        status=status_of(outcome),
        remote_id=outcome.remote_id,
        remote_address=outcome.remote_address,
        time=now,
        return_path=return_path,
        last=last,
        original="" if delivery.asked is None else delivery.asked.original,
        action=action,
    )


def event_of(kind: Kind, delivery: Delivery, outcome: Outcome, channel: str, now: float) -> Event:
    """The event that tells *outcome* of *delivery*."""
    sender = delivery.sender
    return Event(
        kind=kind,
        time=now,
        id=delivery.id,
        batch_id=sender.batch_id,
        channel=channel,
        domain=delivery.domain,
        sender=sender.reverse_path,
        recipient=delivery.recipient,
        token=delivery.token,
        size=outcome.size,
        remote_id=outcome.remote_id,
        remote_address=outcome.remote_address,
        code=outcome.code,
        text=outcome.text,
        attempt=delivery.attempts,
        queued=max(0.0, now - sender.received),
        wire=outcome.duration,
        protocol=sender.protocol,
        context=sender.context or None,
        gone_since=outcome.gone_since,
    )


def _gone(failed: Event, outcome: Outcome) -> Event:
    """The event of the token that the gateway will have no more."""
    return Event(
        kind=Kind.TOKEN,
        time=failed.time,
        id=failed.id,
        batch_id=failed.batch_id,
        channel=failed.channel,
        domain=failed.domain,
        token=failed.token,
        code=failed.code,
        text=failed.text,
        phase=INVALID if outcome.suspect else GONE,
        protocol=SOURCE_PUSH,
        gone_since=failed.gone_since or failed.time,
    )
