"""The message as a server can take it: CR LF at every line's end, no line too long, nothing it does not know.

Bytes in, bytes out. Almost every message passes as it is; what does not is rewritten by reencode.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .entity import fits, split
from .extensions import Extensions
from .reencode import rewrite
from .trace import refuse_loops

_line_end = re.compile(rb"\r\n|\r|\n")


class Content(NamedTuple):
    """A message ready to be sent, dots not yet stuffed."""

    data: bytes
    eight_bit: bool
    """It has octets over 127."""
    utf8: bool
    """Its header has: RFC 6532."""


def prepare(raw: bytes, extensions: Extensions) -> Content:
    """*raw* for a server with *extensions*, without our Received field.

    Raises MessageError: 554 5.4.6 for one that runs in circles, 554 5.6.0 for a line that cannot be divided or a part
    that cannot be read, 554 5.6.3 for one that cannot be converted to 7 bits, 554 5.6.7 for such a header.
    """
    data = normalise(raw)
    entity = split(data)
    refuse_loops(entity.header)
    utf8 = not entity.header.isascii() and extensions.utf8 and _is_utf8(entity.header)
    if entity.gap is None:
        # Without it our own field, put in front, would be followed by something that is none.
        data = b"\r\n".join([entity.header, entity.body])
    if not (fits(data, seven_bit=not extensions.eight_bit) and (entity.header.isascii() or utf8)):
        data = rewrite(data, seven_bit=not extensions.eight_bit, ascii_header=not utf8)
    return Content(data, eight_bit=not data.isascii(), utf8=utf8)


def normalise(raw: bytes) -> bytes:
    """*raw* with CR LF for every CR, LF or CR LF, and at the end (RFC 5321 2.3.8)."""
    ends = raw.count(b"\r\n")
    if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
        raw = _line_end.sub(b"\r\n", raw)
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def _is_utf8(header: bytes) -> bool:
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True
