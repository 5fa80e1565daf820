"""Apple's request headers as a message may give them: which there are, and what each may be.

One table, ``_RULES``: a header's name, and the function that returns its value as it is sent, or raises
ValueError with the text after the name. Pure; the domain's defaults are not known here.

Apple: "Sending notification requests to APNs", table of header fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mcmt.errors import MessageError
from mcmt.message.model import Headers

APNS_HEADERS = (
    "apns-push-type",
    "apns-topic",
    "apns-priority",
    "apns-expiration",
    "apns-collapse-id",
    "apns-id",
)
"""Every request header that a stored part may have, in the order in which it has them."""
PUSH_TYPES = frozenset(
    {
        "alert",
        "background",
        "complication",
        "controls",
        "fileprovider",
        "liveactivity",
        "location",
        "mdm",
        "pushtotalk",
        "voip",
        "widgets",
    }
)
"""Apple's push types to date. One of the same form that is not here passes: Apple adds some every year."""
MAX_COLLAPSE_ID = 64
"""Bytes."""

_is_push_type = re.compile(r"[a-z]{1,32}").fullmatch
_is_topic = re.compile(r"[A-Za-z0-9.-]{1,255}").fullmatch
_is_time = re.compile(r"[0-9]{1,10}").fullmatch
_is_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
# Control characters, and what stands for bytes that were not UTF-8.
_find_unprintable = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd]").search


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:77] + "...")


def _push_type(value: str) -> str:
    if value not in PUSH_TYPES and not _is_push_type(value):
        raise ValueError(f"{_shown(value)} is not 1 to 32 letters a to z")
    return value


def _topic(value: str) -> str:
    if not _is_topic(value):
        raise ValueError(f"{_shown(value)} is not 1 to 255 letters, digits, dots and hyphens")
    return value


def _priority(value: str) -> str:
    if value not in ("1", "5", "10"):
        raise ValueError(f"{_bare(value)} is not 1, 5 or 10")
    return value


def _expiration(value: str) -> str:
    if not _is_time(value):
        raise ValueError(f"{_bare(value)} is not 0 or a time in Unix seconds")
    return str(int(value))


def _collapse_id(value: str) -> str:
    size = len(value.encode())
    if not 1 <= size <= MAX_COLLAPSE_ID:
        raise ValueError(f"{size} bytes, expected 1 to {MAX_COLLAPSE_ID}")
    if _find_unprintable(value):
        raise ValueError(f"{_shown(value)} has control characters or bytes that are not UTF-8")
    return value


def _id(value: str) -> str:
    lower = value.lower()
    if not _is_uuid(lower):
        raise ValueError(f"{_shown(value)} is not a UUID (8-4-4-4-12 hex digits)")
    return lower


def _bare(value: str) -> str:
    """A number as it came; anything else in quotes."""
    return value if value.isascii() and value.isdecimal() and len(value) <= 40 else _shown(value)


_RULES: dict[str, Callable[[str], str]] = {
    "apns-push-type": _push_type,
    "apns-topic": _topic,
    "apns-priority": _priority,
    "apns-expiration": _expiration,
    "apns-collapse-id": _collapse_id,
    "apns-id": _id,
}


def read_request_headers(headers: Headers) -> dict[str, str]:
    """The request headers among a part's fields, each held against its rule.

    Raises MessageError 554 5.6.0, naming the header: a value out of its rule, a header given twice, and one
    that begins with ``apns-`` and is none of APNS_HEADERS (a slip of the pen would else go unnoticed).
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if not name.startswith("apns-"):
            continue
        rule = _RULES.get(name)
        if rule is None:
            raise MessageError(554, "5.6.0", f"{name[:40]}: not a header that is sent to Apple")
        if name in found:
            raise MessageError(554, "5.6.0", f"{name}: given more than once")
        try:
            found[name] = rule(value)
        except ValueError as error:
            raise MessageError(554, "5.6.0", f"{name}: {error}") from None
    return found


def complete(given: dict[str, str], aps: dict[str, Any]) -> Headers:
    """*given* with push type and a background push's priority filled in, in the order of APNS_HEADERS.

    Not given, the type is ``background`` where *aps* has content-available and nothing to show, else
    ``alert``. A background push has priority 5 (Apple refuses 10, which is its default): with another one
    raises MessageError 554 5.6.0.
    """
    push_type = given.setdefault("apns-push-type", "background" if _is_silent(aps) else "alert")
    if push_type == "background" and given.setdefault("apns-priority", "5") != "5":
        raise MessageError(554, "5.6.0", f"apns-priority: {given['apns-priority']}, but a background push has 5")
    return tuple([(name, given[name]) for name in APNS_HEADERS if name in given])


def _is_silent(aps: dict[str, Any]) -> bool:
    return bool(aps.get("content-available")) and all(aps.get(key) is None for key in ("alert", "badge", "sound"))
