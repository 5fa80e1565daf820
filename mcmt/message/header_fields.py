"""Header blocks: where one ends, and its fields (RFC 5322 2.2, RFC 2045 3).

Bytes in, ``Headers`` out; no I/O, no state. Lines end in CRLF, or in LF alone where a door other than
SMTP let that through. Two ways of reading:

- ``read_fields``: the message's own block. Mail of any kind passes here on its way to elsewhere, so a
  line that is no field is skipped.
- ``read_part_fields``: a block of a part. Its fields decide where a push goes, so a line that is no
  field is a fault, told with its number.

A value is unfolded by taking out the line end alone (RFC 5322 2.2.3), stripped of white space, and read
as UTF-8 (RFC 6532); other bytes become U+FFFD. Encoded words (RFC 2047) stay as they are. This file must
not know what any field means, but for those that list addresses: they may be many.
"""

from __future__ import annotations

import re

from mcmt.errors import MessageError
from mcmt.message.model import Headers

MAX_HEADER_BLOCK = 64 * 1024
"""Bytes of the fields of one part's block, those of ADDRESS_FIELDS not counted."""
MAX_ADDRESS_FIELDS = 10_000
"""How often a part may repeat a field of ADDRESS_FIELDS."""
MAX_ANY_BLOCK = 4 * 1024 * 1024
"""Bytes of any block, lists of addresses and a message's own block included."""
MAX_ANY_LINES = 25_000
"""Lines of any block."""
_BRACE = 0x7B
ADDRESS_FIELDS = frozenset({"x-device-token", "x-registration-id"})
"""Fields that list the addresses of a part's deliveries."""

# RFC 5322 2.2: field-name = 1*ftext, ftext = %d33-57 / %d59-126; 4.5: obsolete white space before the colon.
# One pass over the unfolded block costs half of what splitting it into lines does.
_find_fields = re.compile(r"^([!-9;-~]++)[ \t]*+:(.*)$", re.MULTILINE).findall
# One expression for all that may end a block: over a block of 680 KB (10,000 device tokens, folded) 0.2 ms, where
# searching for each of the three by itself took 1.0 ms. An expression runs from line end to line end in memchr.
_find_blank = re.compile(rb"\n\r?\n").search
_find_blank_or_brace = re.compile(rb"\n(?:\r?\n|\{)").search
_has_fold = re.compile(rb"\n[ \t]").search
_FOLDS = (b"\r\n ", b"\r\n\t", b"\n ", b"\n\t")


def find_end(data: bytes, start: int, end: int, *, brace: bool = False) -> tuple[int, int]:
    """Where the header block at *start* ends, and where what follows it begins.

    The block ends before the first blank line; with *brace* also before a line that begins with ``{``,
    since Momentum's manual shows a part's JSON right behind its fields. Else all of it is the block.
    """
    if data.startswith((b"\n", b"\r\n"), start, end):
        return start, data.index(b"\n", start) + 1
    if brace and data.startswith(b"{", start, end):
        return start, start
    found = (_find_blank_or_brace if brace else _find_blank)(data, start, end)
    if found is None:
        return end, end
    before, body = found.span()
    return before + 1, body - 1 if data[body - 1] == _BRACE else body


def _unfold(block: bytes) -> bytes:
    # Only the line ends of folds are taken out, and no more passes made than there are kinds of them: over a list of
    # 10,000 device tokens 0.8 ms, where making every line end the same first took 2.9 ms.
    for fold in _FOLDS:
        block = block.replace(fold, fold[-1:])
        if not _has_fold(block):
            break
    return block


def _refuse_size(block: bytes, where: str) -> None:
    """The limits that hold before anything is taken apart, so that no object is made for a line over them."""
    if len(block) > MAX_ANY_BLOCK:
        text = f"{where}: the header block has {len(block)} bytes, at most {MAX_ANY_BLOCK} are read"
        raise MessageError(554, "5.3.4", text)
    lines = block.count(b"\n")
    if lines > MAX_ANY_LINES:
        raise MessageError(
            554, "5.3.4", f"{where}: the header block has {lines} lines, at most {MAX_ANY_LINES} are read"
        )


def read_fields(block: bytes) -> Headers:
    """The fields of a message's own block; lines that are none are skipped.

    Raises MessageError (554 5.3.4) for a block past MAX_ANY_BLOCK or MAX_ANY_LINES.
    """
    if len(block) > MAX_HEADER_BLOCK:
        _refuse_size(block, "message")
    text = (_unfold(block) if _has_fold(block) else block).decode("utf-8", "replace")
    return tuple([(name.lower(), value.strip(" \t\r")) for name, value in _find_fields(text)])


def read_part_fields(block: bytes, where: str, data: bytes, offset: int) -> Headers:
    """The fields of a part's block.

    *where* names the part and the block stands in *data* at *offset*: both for the reply. Raises
    MessageError: 554 5.6.0 for a line that is no field, with its number in *data*; 554 5.3.4 past a limit.
    """
    large = len(block) > MAX_HEADER_BLOCK
    if large:
        _refuse_size(block, where)
    text = (_unfold(block) if _has_fold(block) else block).decode("utf-8", "replace").rstrip("\r\n")
    fields = [(name.lower(), value.strip(" \t\r")) for name, value in _find_fields(text)]
    if len(fields) != (text.count("\n") + 1 if text else 0):
        raise _not_a_field(block, where, data.count(b"\n", 0, offset) + 1)
    if large:
        _refuse_many(fields, where)
    return tuple(fields)


def _refuse_many(fields: list[tuple[str, str]], where: str) -> None:
    others = [len(name) + len(value) for name, value in fields if name not in ADDRESS_FIELDS]
    if sum(others) > MAX_HEADER_BLOCK:
        text = f"{where}: the header fields have {sum(others)} bytes, at most {MAX_HEADER_BLOCK} are read"
        raise MessageError(554, "5.3.4", text)
    addresses = len(fields) - len(others)
    if addresses > MAX_ADDRESS_FIELDS:
        text = f"{where}: {addresses} fields that list addresses, at most {MAX_ADDRESS_FIELDS} are read"
        raise MessageError(554, "5.3.4", text)


def _not_a_field(block: bytes, where: str, first_line: int) -> MessageError:
    """The fault of the first line that is no field; looks for it again, as only a fault needs its number."""
    number, shown = first_line, ""
    for line in block.decode("utf-8", "replace").split("\n"):
        folded = number > first_line and line[:1] in (" ", "\t")
        if not folded and not _find_fields(line):
            shown = line.rstrip("\r")[:40]
            break
        number += 1
    return MessageError(554, "5.6.0", f"{where}, line {number}: expected a header field (Name: value), found {shown!a}")
