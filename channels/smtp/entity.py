"""An entity (RFC 2045 2.4: a message or a part of one) taken apart, as far as sending it asks for.

Bytes in, values out; lines end in CR LF. This file must not change anything.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_LINE = 998
"""Octets of a line without its CR LF (RFC 5322 2.1.1, RFC 5321 4.5.3.1.6)."""

# RFC 5322 2.2, 4.5: the first line that is neither a field, nor the continuation of one.
_find_other = re.compile(rb"^(?![!-9;-~]+[ \t]*:|[ \t])", re.MULTILINE).search


class Entity(NamedTuple):
    """Header block, what separates it from the body, body."""

    header: bytes
    gap: bytes | None
    """The blank line; None where it is missing and the body is not empty."""
    body: bytes


def split(data: bytes) -> Entity:
    """The header block ends at the first line that is no field: the blank line, or else the body itself."""
    # A continuation of nothing is no header.
    other = None if data[:1] in (b" ", b"\t") else _find_other(data)
    if other is None and data[:1] not in (b" ", b"\t"):
        return Entity(data, b"", b"")
    at = other.start() if other is not None else 0
    if data.startswith(b"\r\n", at):
        return Entity(data[:at], b"\r\n", data[at + 2 :])
    return Entity(data[:at], None if data[at:] else b"", data[at:])


def fits(data: bytes, *, seven_bit: bool) -> bool:
    """Whether *data* may be sent as it is."""
    return not has_long_line(data) and b"\0" not in data and (data.isascii() or not seven_bit)


def has_long_line(data: bytes) -> bool:
    """Whether a line is longer than MAX_LINE. Goes from line end to line end by jumps of almost MAX_LINE."""
    at, end = 0, len(data)
    while end - at > MAX_LINE:
        found = data.rfind(b"\r\n", at, at + MAX_LINE + 2)
        if found < 0:
            return True
        at = found + 2
    return False
