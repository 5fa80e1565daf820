"""What Apple's answers mean: every documented reason in one table, unknown ones by their status.

Source: Apple, "Handling notification responses from APNs" and "Establishing a token-based connection to
APNs". The reason decides, because one status has many (400 is a dead token as well as a bad topic).
Reasons are compared without spaces: Apple writes "Service Unavailable" both ways.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from enum import Flag, auto
from typing import NamedTuple

import msgspec

from mcmt.message.status import Disposition


class After(Flag):
    """What the connection does besides reporting the outcome."""

    NOTHING = 0
    LEAVE = auto()
    """Take nothing more here: Apple will not serve this connection any longer."""
    RENEW_TOKEN = auto()
    """The provider token is refused: have another one made, if that is allowed; else it is the route's fault."""
    TOPIC = auto()
    """About the topic: the message's own fault when the message brought it, otherwise the route's."""
    SUSPECT = auto()
    """Said of every token when the environment or the app is the wrong one: not believed by itself."""


class Rule(NamedTuple):
    """What one reason means."""

    disposition: Disposition
    after: After = After.NOTHING
    wait: float = 0.0
    """Seconds to hold the route (REFUSED) or the delivery (TRANSIENT) where Apple names none."""


_TRANSIENT = Rule(Disposition.TRANSIENT)
_PERMANENT = Rule(Disposition.PERMANENT)
_GONE = Rule(Disposition.RECIPIENT_GONE)
_SUSPECT = Rule(Disposition.RECIPIENT_GONE, After.SUSPECT)
_FAULT = Rule(Disposition.ROUTE_FAULT)
_TOPIC = Rule(Disposition.ROUTE_FAULT, After.TOPIC)
_ELSEWHERE = Rule(Disposition.REFUSED, After.LEAVE)
_RENEW = Rule(Disposition.REFUSED, After.LEAVE | After.RENEW_TOKEN)

RULES: dict[str, Rule] = {
    # 400
    "BadCollapseId": _PERMANENT,
    "BadDeviceToken": _SUSPECT,  # Apple: never try again
    "BadExpirationDate": _PERMANENT,
    "BadMessageId": _PERMANENT,
    "BadPriority": _PERMANENT,
    "BadTopic": _TOPIC,
    "DeviceTokenNotForTopic": _SUSPECT,
    "DuplicateHeaders": _PERMANENT,
    "IdleTimeout": _ELSEWHERE,
    "InvalidPushType": _PERMANENT,
    "MissingDeviceToken": _PERMANENT,
    "MissingTopic": _TOPIC,
    "PayloadEmpty": _PERMANENT,
    "TopicDisallowed": _TOPIC,
    # 403
    "BadCertificate": _FAULT,
    "BadCertificateEnvironment": _FAULT,
    "BadEnvironmentKeyIdInToken": _FAULT,
    "BadEnvironmentKeyInToken": _FAULT,  # spelt so in some answers
    "ExpiredProviderToken": _RENEW,
    "Forbidden": _PERMANENT,  # Apple: do not try again
    "InvalidProviderToken": _RENEW,
    "MissingProviderToken": _FAULT,
    # The key differs from the one first used on this connection: another connection has no such history.
    "UnrelatedKeyIdInToken": _ELSEWHERE,
    # 404, 405
    "BadPath": _PERMANENT,
    "MethodNotAllowed": _PERMANENT,
    # 410
    "ExpiredToken": _GONE,
    "Unregistered": _GONE,
    # 413
    "PayloadTooLarge": _PERMANENT,
    # 429. The first is about our tokens, not the message: keep the token (a new one would make it worse) and wait.
    "TooManyProviderTokenUpdates": Rule(Disposition.REFUSED, After.LEAVE, wait=60.0),
    "TooManyRequests": Rule(Disposition.TRANSIENT, wait=60.0),
    # 500, 503
    "InternalServerError": _TRANSIENT,
    "ServiceUnavailable": _TRANSIENT,
    "Shutdown": _ELSEWHERE,
}

BY_STATUS: dict[int, Rule] = {
    403: _FAULT,
    404: _PERMANENT,
    405: _PERMANENT,
    410: _GONE,
    413: _PERMANENT,
    429: Rule(Disposition.TRANSIENT, wait=60.0),
}
"""Reasons that are not in the table: Apple adds some every year."""

DELIVERED = Rule(Disposition.DELIVERED)


class Answer(NamedTuple):
    """One answer, understood."""

    rule: Rule
    status: str
    reason: str
    gone_since: float
    """Seconds since the epoch; 0 when not given."""


class _ErrorBody(msgspec.Struct):
    reason: str = ""
    timestamp: float | None = None


def understand(status: int, body: bytes) -> Answer:
    """What Apple's status and JSON body mean. An unreadable body is judged by the status alone."""
    if status == 200:
        return Answer(DELIVERED, "200", "", 0.0)
    reason, timestamp = reason_of(body)
    rule = RULES.get(reason.replace(" ", "")) or BY_STATUS.get(status)
    if rule is None:
        # A 4xx is the request's fault. Anything else that we cannot read counts as temporary.
        rule = _PERMANENT if 400 <= status < 500 else _TRANSIENT
    return Answer(rule, str(status), reason or f"HTTP {status} without a reason", timestamp)


def reason_of(body: bytes) -> tuple[str, float]:
    """The reason and the timestamp (seconds) of an error body or of GOAWAY's debug data; empty when unreadable."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return "", 0.0
    return error.reason[:200], (error.timestamp or 0.0) / 1000


LONGEST_WAIT = 86400.0
"""Seconds: no Retry-After is taken for more."""
_is_number = re.compile(r"[ \t]*[0-9]+[ \t]*").fullmatch


def retry_after(value: str | None, now: float) -> float:
    """Seconds that a Retry-After field asks for (RFC 9110 10.2.3): a number or a date; 0 when absent or unreadable."""
    if not value:
        return 0.0
    try:
        wait = float(value) if _is_number(value) else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, wait), LONGEST_WAIT)
