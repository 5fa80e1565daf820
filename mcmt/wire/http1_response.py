"""The head of a response of HTTP/1.1 (RFC 9112), read without I/O, for a client that wants no more than the status.

Rules: whatever cannot be read is a ProtocolError; how long the body is, is told only where that is sure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from mcmt.errors import ProtocolError

HEAD: Final = 16 * 1024
"""Octets of a response's first line and fields."""

# RFC 9112 4.
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")
_LENGTH: Final = "content-length"
_is_length = re.compile(r"[0-9]{1,15}").fullmatch


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and fields."""

    status: int
    fields: Mapping[str, str]
    """By name in lower case; of one that comes twice, the last, but of lengths all."""
    length: int | None
    """Octets of the body; None: it ends with the connection, or comes in chunks."""
    keep_alive: bool
    """The connection may be used again, once the body was read."""


def read_head(data: bytes) -> ResponseHead:
    """*data*: up to the empty line and with it. Raises ProtocolError."""
    first, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise ProtocolError("this is no response of HTTP/1.1")
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ProtocolError("a field of the response cannot be read")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1").strip(" \t")
        # RFC 9112 6.3: of several lengths none is sure. A comma makes them no number.
        fields[name] = f"{fields[name]}, {value}" if name in fields and name == _LENGTH else value
    code = int(status[2])
    options = {option.strip() for option in fields.get("connection", "").lower().split(",")}
    return ResponseHead(
        code,
        fields,
        _length(code, fields),
        "close" not in options if status[1] == b"1" else "keep-alive" in options,
    )


def _length(code: int, fields: Mapping[str, str]) -> int | None:
    # RFC 9112 6.3: these have no body, whatever their fields say.
    if code < 200 or code in (204, 304):
        return 0
    length = fields.get(_LENGTH, "")
    if "transfer-encoding" in fields or not _is_length(length):
        return None
    return int(length)
