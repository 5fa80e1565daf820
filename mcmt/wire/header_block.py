"""Header blocks (HPACK, RFC 7541) without a dynamic table: prepared for requests, recognised in responses.

Requests are built of literals without indexing and of fields of the static table, so a block is a plain
concatenation: what is the same for every request is encoded once. Towards the peer we set
SETTINGS_HEADER_TABLE_SIZE to 0, so its blocks do not depend on each other either: the same bytes always
mean the same fields. A response block begins with ``:status`` (RFC 9113 section 8.3), therefore its first
bytes tell the status and the fields behind need no decoding unless somebody asks.

This module must not keep a dynamic table, and never lets an exception of ``hpack`` out.
"""

from __future__ import annotations

import re
from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from mcmt.errors import ProtocolError
from mcmt.wire.frames import ErrorCode

MAX_HEADER_LIST: Final = 16_384
"""Largest header list we take, in the units of RFC 9113 section 6.5.2; announced as MAX_HEADER_LIST_SIZE."""
TABLE_SIZE_ZERO: Final = b"\x20"
"""Dynamic table size update to 0 (RFC 7541 section 6.3)."""
INDEXED_STATUS: Final = {
    bytes([0x80 | index]): int(value)
    for index, (name, value) in enumerate(HeaderTable.STATIC_TABLE, start=1)
    if name == b":status"
}
"""First byte of a block -> status, where the whole field is in the static table: 0x88 is 200."""

_FIELDS: Final = {field: index for index, field in enumerate(HeaderTable.STATIC_TABLE, start=1)}
# The lowest index of a name: the dict keeps what comes last.
_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, start=1)))}
# A literal whose name is one of the table's seven :status entries: without indexing, never indexed, incremental.
_LITERAL_STATUS: Final = frozenset(form | index for form in (0x00, 0x10, 0x40) for index in range(8, 15))
_MAX_KNOWN = 64
# RFC 9113 section 8.2.1
_NAME = re.compile(r":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(r"[\0\r\n]|\A[ \t]|[ \t]\Z")


def _integer(number: int, bits: int, form: int) -> bytes:
    # RFC 7541 section 5.1
    limit = (1 << bits) - 1
    if number < limit:
        return bytes([form | number])
    encoded = bytearray([form | limit])
    number -= limit
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_LENGTHS: Final = tuple(_integer(length, 7, 0) for length in range(512))


def field_name(name: str, never_indexed: bool = False) -> bytes:
    """The first half of a literal: its name, by static index where there is one.

    *never_indexed* tells intermediaries to keep the value out of their tables too (RFC 7541 section 7.1.3).
    Raises ProtocolError for what is not a lower-case field name.
    """
    if not _NAME.fullmatch(name):
        raise ProtocolError(f"not an HTTP/2 field name: {name!r}", ErrorCode.INTERNAL_ERROR)
    form = 0x10 if never_indexed else 0x00
    encoded = name.encode("ascii")
    if index := _NAMES.get(encoded):
        return _integer(index, 4, form)
    return bytes([form]) + _integer(len(encoded), 7, 0) + encoded


def field_value(value: str) -> bytes:
    """The second half of a literal: its value, as it is (Huffman coding in Python costs more than the bytes it saves).

    Raises ProtocolError for a value that RFC 9113 section 8.2.1 forbids: control characters, blanks at an end.
    """
    # Three C calls on the usual value, a token or a UUID: 0.1 us; the expression below takes 0.6 us.
    if not (value.isascii() and value.isprintable() and value.strip() == value) and _BAD_VALUE.search(value):
        raise ProtocolError(f"not an HTTP/2 field value: {value!r}", ErrorCode.INTERNAL_ERROR)
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError(f"not an HTTP/2 field value: {value!r}", ErrorCode.INTERNAL_ERROR) from error
    size = len(encoded)
    return (_LENGTHS[size] if size < len(_LENGTHS) else _integer(size, 7, 0)) + encoded


def literal(name: str, value: str, never_indexed: bool = False) -> bytes:
    """One field as a literal without indexing (RFC 7541 sections 6.2.2 and 6.2.3)."""
    return field_name(name, never_indexed) + field_value(value)


def indexed(name: str, value: str) -> bytes:
    """One field that the static table holds whole, such as ``:method: POST``. Raises ProtocolError if it does not."""
    index = _FIELDS.get((name.encode(), value.encode()))
    if index is None:
        raise ProtocolError(f"not in the static table: {name}: {value}", ErrorCode.INTERNAL_ERROR)
    return _integer(index, 7, 0x80)


def _decode(block: bytes) -> list[tuple[bytes, bytes]]:
    decoder = Decoder(MAX_HEADER_LIST)
    decoder.max_allowed_table_size = 0
    decoder.header_table_size = 0
    try:
        return [(bytes(field[0]), bytes(field[1])) for field in decoder.decode(block, raw=True)]
    except OversizedHeaderListError as error:
        raise ProtocolError(f"header list above {MAX_HEADER_LIST} bytes", ErrorCode.ENHANCE_YOUR_CALM) from error
    except HPACKError as error:
        raise ProtocolError(f"header block cannot be decoded: {error}", ErrorCode.COMPRESSION_ERROR) from error


def decode_headers(block: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of a block that arrived, in order; values as Latin-1, which reads any byte.

    Raises ProtocolError, COMPRESSION_ERROR when it is not HPACK or needs a dynamic table,
    ENHANCE_YOUR_CALM when the list is above MAX_HEADER_LIST.
    """
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in _decode(block))


class StatusReader:
    """Tells the status of response blocks; remembers the literal statuses it met.

    One a connection, so that what it remembers is bounded by what one peer sends: at most 64 encodings of
    a few bytes.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def read(self, block: bytes) -> int:
        """Status of *block*; 0 when its first field is none, which makes the response malformed (RFC 9113 8.1.1).

        Only a block whose status is met for the first time is decoded, 6 us; the others take 0.2 us.
        Raises ProtocolError as ``decode_headers`` does.
        """
        # The peer's first block may begin by shrinking its table to the size we allow (RFC 7541 section 4.2).
        field = block.removeprefix(TABLE_SIZE_ZERO)
        if (status := INDEXED_STATUS.get(field[:1])) is not None:
            return status
        key = b""
        if len(field) > 2 and field[0] in _LITERAL_STATUS:
            # The field alone is the key, not the block: what follows (apns-id, date) differs every time.
            key = field[: 2 + (field[1] & 0x7F)]
            if (status := self._known.get(key)) is not None:
                return status
        fields = _decode(block)
        name, value = fields[0] if fields else (b"", b"")
        if name != b":status" or len(value) != 3 or not value.isdigit() or value < b"100":
            return 0
        status = int(value)
        if key and len(self._known) < _MAX_KNOWN:
            self._known[key] = status
        return status
