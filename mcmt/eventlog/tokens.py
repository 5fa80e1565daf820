"""How device tokens stand in a log: whole, masked, as a hash, or not at all (``token_log``).

| token_log | a token is written as |
|---|---|
| full | itself |
| masked | its first and last four characters: ``0123...cdef`` |
| hash | ``sha256-`` and the first 16 hex digits of the SHA-256 of the token in lower case |
| none | ``-`` |

A token is hidden wherever it stands: in its own column, in the recipient's local part, in context variables, in what a
gateway or we say of it. What is not known to be a token and has 32 or more hex digits in a row is taken for one. The
address of a mail is no token.

Rules: pure, and the same for the same event each time (loggers.py). Without it a line costs nothing more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

import msgspec

from mcmt.message.event import Event, Kind

_TOKEN = re.compile(r"[0-9A-Fa-f]{32,}")
_SHOWN_AT_EACH_END = 4
_HASH = 16
_TELL_OF_DELIVERIES = frozenset(
    {Kind.RECEPTION, Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT, Kind.REJECTION, Kind.TOKEN}
)


def _mask(token: str) -> str:
    shown = _SHOWN_AT_EACH_END
    return f"{token[:shown]}...{token[-shown:]}" if len(token) >= 4 * shown else "..."


def _hash(token: str) -> str:
    digest = hashlib.sha256(token.lower().encode("utf-8", "surrogateescape"))
    return f"sha256-{digest.hexdigest()[:_HASH]}"


def _none(token: str) -> str:  # noqa: ARG001 - as the others
    return "-"


_WAYS: Mapping[str, Callable[[str], str]] = {"masked": _mask, "hash": _hash, "none": _none}


def written(token: str, token_log: str) -> frozenset[str]:
    """How *token* may stand in a log: it keeps the letters' case that its sender gave it. Empty: it is not there."""
    if token_log == "none":  # noqa: S105 - a word, not a secret
        return frozenset()
    way = _WAYS.get(token_log, str)
    return frozenset(way(each) for each in (token, token.lower(), token.upper()))


def compile_tokens(token_log: str) -> Callable[[Event], Event] | None:
    """What makes of an event the one to be written; None: it is written as it is."""
    way = _WAYS.get(token_log)
    return None if way is None else lambda event: _hide(event, way)


def _hide(event: Event, way: Callable[[str], str]) -> Event:
    if event.kind not in _TELL_OF_DELIVERIES:
        return event
    token = event.token if "@" not in event.token else ""

    def clean(value: str) -> str:
        if token:
            value = re.sub(re.escape(token), lambda match: way(match[0]), value, flags=re.IGNORECASE)
        return _TOKEN.sub(lambda match: way(match[0]), value)

    return msgspec.structs.replace(
        event,
        token=way(token) if token else event.token,
        sender=clean(event.sender),
        recipient=clean(event.recipient),
        text=clean(event.text),
        context=event.context and {key: clean(value) for key, value in event.context.items()},
    )
