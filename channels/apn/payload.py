"""The JSON that a push carries: held against Apple's rules, and otherwise sent as it came.

Bytes in, bytes out; pure. The bytes are the client's own, white space around them taken off. Only where
strict JSON (RFC 8259) cannot be read in them, commas before ``}`` or ``]`` are cut, as in the sample of
Momentum's manual, and it is read again; nothing is ever written anew.

Apple: "Generating a remote notification", "Sending notification requests to APNs" (payload sizes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mcmt.errors import MessageError

MAX_PAYLOAD = 4096
"""Bytes."""
MAX_PAYLOADS = {"voip": 5120}
"""Bytes, where a push type has a limit of its own."""
MAX_DEPTH = 100
"""Objects and arrays inside one another."""
WITHOUT_APS = frozenset({"mdm", "fileprovider"})
"""Push types that the system itself reads, by keys of their own beside ``aps``: it may lack."""

_WHITE = b" \t\r\n"
# Either a string, whole (or up to the end, where its quote is missing), or a comma to be cut.
_find_commas = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|,(?=[ \t\r\n]*[}\]])', re.DOTALL).finditer
_byte_of = re.compile(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)").fullmatch


class _JsonFault(Exception):  # noqa: N818 - never leaves this file
    """JSON that cannot be read: why, and at which byte, where that is known."""

    def __init__(self, reason: str, at: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


def read_payload(content: bytes, push_type: str | None) -> tuple[bytes, dict[str, Any]]:
    """The payload as it is to be sent, and its ``aps`` (empty where it may lack and does).

    *push_type* is the one that the message gives, if it does. Raises MessageError: 554 5.3.4 over Apple's
    limit; 554 5.6.0 for what is not JSON, not an object, nested beyond MAX_DEPTH or without ``aps``.
    """
    payload = content.strip(_WHITE)
    limit = MAX_PAYLOADS.get(push_type or "", MAX_PAYLOAD)
    if not payload:
        raise MessageError(554, "5.6.0", "payload: the part has no JSON")
    # Cutting frees at most one byte for every } or ]; past that nothing large is read only to be refused.
    if len(payload) > limit and len(payload) - payload.count(b"}") - payload.count(b"]") > limit:
        raise _too_large(payload, limit)
    payload, value = _read_json(payload)
    if len(payload) > limit:
        raise _too_large(payload, limit)
    if not isinstance(value, dict):
        raise MessageError(554, "5.6.0", f"payload: expected a JSON object, found {_kind(value)}")
    if "aps" not in value:
        if push_type in WITHOUT_APS:
            return payload, {}
        raise MessageError(554, "5.6.0", 'payload: the JSON object has no "aps"')
    aps = value["aps"]
    if not isinstance(aps, dict):
        raise MessageError(554, "5.6.0", f'payload: "aps" is {_kind(aps)}, expected an object')
    return payload, aps


def _too_large(payload: bytes, limit: int) -> MessageError:
    return MessageError(554, "5.3.4", f"payload: {len(payload)} bytes, Apple takes at most {limit}")


def _read_json(payload: bytes) -> tuple[bytes, Any]:
    try:
        return payload, _decode(payload)
    except _JsonFault as strict:
        fault = strict
    commas = [match.start() for match in _find_commas(payload) if match[0] == b","]
    if commas:
        try:
            # With spaces in their place, so that a fault is told where the client has it.
            value = _decode(_join(payload, commas, b" "))
        except _JsonFault as remaining:
            fault = remaining
        else:
            return _join(payload, commas, b""), value
    where = ""
    if fault.at is not None:
        before = payload[: fault.at]
        # Near, since the decoder sometimes names the byte after the one at fault.
        where = f" near line {before.count(10) + 1} column {fault.at - before.rfind(10)}"
    raise MessageError(554, "5.6.0", f"payload: not JSON{where}: {fault.reason}")


def _join(payload: bytes, commas: list[int], substitute: bytes) -> bytes:
    starts = [0, *(at + 1 for at in commas)]
    return substitute.join(payload[start:end] for start, end in zip(starts, [*commas, len(payload)], strict=True))


def _decode(payload: bytes) -> Any:
    try:
        value = msgspec.json.decode(payload)
    except UnicodeDecodeError:
        raise _not_utf8(payload) from None
    except msgspec.DecodeError as error:
        if match := _byte_of(str(error)):
            raise _JsonFault(match[1], int(match[2])) from None
        raise _JsonFault(_first_lower(str(error))) from None
    except RecursionError:
        raise _too_deep() from None
    # No text is nested deeper than it has opening brackets.
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _is_deep(value):
        raise _too_deep()
    return value


def _not_utf8(payload: bytes) -> _JsonFault:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return _JsonFault("bytes that are not UTF-8", error.start)
    return _JsonFault("an escape that is not a character")


def _too_deep() -> _JsonFault:
    return _JsonFault(f"nested deeper than {MAX_DEPTH}")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for container in level for child in _children(container)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterator[Any]:
    """The objects and arrays that stand directly in *value*."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (child for child in values if isinstance(child, dict | list))


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
