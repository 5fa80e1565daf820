"""Messages rewritten so that they fit a server: lines of at most 998 octets, and 7 bits where it wants that.

Bytes in, bytes out; lines end in CR LF. Only what does not fit is touched: the body of the leaf that has the long line
or the octet over 127 gets another Content-Transfer-Encoding (RFC 2045 6), header lines are folded (header_lines.py),
and everything beside them stays as it was, byte by byte. Decoded, the message is the same.

What cannot be helped is a MessageError: 554 5.6.0 for a line that cannot be divided, 554 5.6.3 for a conversion that
is not possible. A signature over a rewritten part (RFC 1847) does not verify any longer; the message would not have
passed otherwise.
"""

from __future__ import annotations

import binascii
import re
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser
from typing import NamedTuple

from mcmt.errors import MessageError

from .entity import MAX_LINE, fits, split
from .header_lines import fold_lines, repair, with_field, without_field

MAX_DEPTH = 30
"""Entities inside one another."""
BASE64_LINE = 76

_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})
"""Bodies that are messages themselves. Other message/* types have blocks of fields, or are a protocol's own."""
_ENCODING = "content-transfer-encoding"


class _Task(NamedTuple):
    seven_bit: bool
    boundaries: tuple[bytes, ...]
    """Those of the multiparts around: a new line must not look like one of theirs."""
    depth: int
    default_type: str
    """RFC 2046 5.1.5: message/rfc822 inside multipart/digest."""
    is_message: bool

    def inside(self, *, is_message: bool, default_type: str = "text/plain", boundary: bytes = b"") -> _Task:
        boundaries = (*self.boundaries, boundary) if boundary else self.boundaries
        return _Task(self.seven_bit, boundaries, self.depth + 1, default_type, is_message)


def rewrite(message: bytes, *, seven_bit: bool, ascii_header: bool) -> bytes:
    """*message* so that it fits; *ascii_header*: its own header block has to be ASCII. Raises MessageError."""
    task = _Task(seven_bit, (), 0, "text/plain", is_message=True)
    rewritten = _entity(message, task, ascii_header=ascii_header or seven_bit)
    if not fits(rewritten, seven_bit=seven_bit):
        raise _too_long("the message")
    return rewritten


def _too_long(where: str) -> MessageError:
    return MessageError(554, "5.6.0", f"{where} has a line of more than {MAX_LINE} octets that cannot be divided")


def _impossible(what: str) -> MessageError:
    return MessageError(554, "5.6.3", f"{what} cannot be converted to what the server takes")


def _entity(data: bytes, task: _Task, *, ascii_header: bool) -> bytes:
    if task.depth > MAX_DEPTH:
        raise _impossible(f"a part inside {MAX_DEPTH} others")
    entity = split(data)
    header, body = repair(entity.header, ascii_only=ascii_header), entity.body
    if not fits(body, seven_bit=task.seven_bit):
        fields = BytesHeaderParser(policy=policy.compat32).parsebytes(header)
        fields.set_default_type(task.default_type)
        media_type, encoding = fields.get_content_type(), _encoding(fields)
        boundary = _boundary(fields) if media_type.startswith("multipart/") else b""
        if boundary:
            body = _multipart(body, boundary, media_type, task)
            header = _as_seven_bit(header, encoding, body, task)
        elif media_type in _MESSAGES and encoding in _IDENTITY:
            body = _entity(body, task.inside(is_message=True), ascii_header=task.seven_bit)
            header = _as_seven_bit(header, encoding, body, task)
        elif media_type.startswith("message/") and encoding in _IDENTITY:
            body = _blocks_of_fields(body, media_type, task)
        elif media_type.startswith(("message/", "multipart/")):
            # RFC 2045 6.4: composite types cannot be encoded, so nobody would decode them.
            raise _impossible(f"a part of the type {media_type}")
        else:
            body, encoding = _leaf(body, media_type, encoding, task)
            header = _labelled(header, fields, encoding, entity.body, task)
    gap = entity.gap if entity.gap is not None else b"\r\n"
    return b"".join([header, gap or (b"\r\n" if body else b""), body])


def _encoding(fields: Message) -> str:
    return str(fields.get(_ENCODING, "")).strip().lower()


def _boundary(fields: Message) -> bytes:
    boundary = fields.get_boundary()
    return boundary.encode("utf-8", "surrogateescape") if boundary else b""


# -- composite types --------------------------------------------------------------------------------------------------


def _multipart(body: bytes, boundary: bytes, media_type: str, task: _Task) -> bytes:
    """RFC 2046 5.1.1. Preamble and epilogue mean nothing: they go where they do not fit."""
    lines = list(re.finditer(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)", body, re.MULTILINE))
    if not lines or lines[0][1]:
        raise _impossible(f"a {media_type} without its boundary lines")
    default_type = "message/rfc822" if media_type == "multipart/digest" else "text/plain"
    inside = task.inside(is_message=False, default_type=default_type, boundary=boundary)
    preamble = body[: lines[0].start()]
    pieces = [preamble if fits(preamble, seven_bit=task.seven_bit) else b""]
    for number, line in enumerate(lines):
        closing = b"--" if line[1] else b""
        verbatim = len(line[0]) <= MAX_LINE + 2
        pieces.append(line[0] if verbatim else b"--" + boundary + closing + b"\r\n")
        end = lines[number + 1].start() if number + 1 < len(lines) and not closing else len(body)
        part = body[line.end() : end]
        if closing:
            if fits(part, seven_bit=task.seven_bit):
                pieces.append(part)
            break
        # The line end before a boundary line belongs to it.
        tail = b"\r\n" if part.endswith(b"\r\n") else b""
        content = part[: len(part) - len(tail)]
        pieces += [content if fits(content, seven_bit=task.seven_bit) else _part(content, inside), tail]
    return b"".join(pieces)


def _part(content: bytes, task: _Task) -> bytes:
    return _entity(content, task, ascii_header=task.seven_bit)


def _blocks_of_fields(body: bytes, media_type: str, task: _Task) -> bytes:
    """Delivery status and the like (RFC 3464 2.1): fields, which can be folded and not encoded."""
    if (task.seven_bit and not body.isascii()) or b"\0" in body:
        raise _impossible(f"a part of the type {media_type}")
    return fold_lines(body)


def _as_seven_bit(header: bytes, encoding: str, body: bytes, task: _Task) -> bytes:
    """RFC 2045 6.4: a composite type says of itself what its parts need at most."""
    if task.seven_bit and encoding in ("8bit", "binary") and body.isascii():
        return with_field(without_field(header, _ENCODING), b"Content-Transfer-Encoding: 7bit")
    return header


# -- leaves -----------------------------------------------------------------------------------------------------------


def _leaf(body: bytes, media_type: str, encoding: str, task: _Task) -> tuple[bytes, str]:
    """The body encoded so that it fits, and in what."""
    if encoding == "base64":
        # Only the line ends change, so whatever a decoder made of it, it still does.
        wrapped = _wrapped(body.replace(b"\r\n", b""))
        if not fits(wrapped, seven_bit=task.seven_bit) or _has_boundary(wrapped, task):
            raise _impossible("a base64 part with other characters in it")
        return _with_end_of(body, wrapped), encoding
    if encoding == "quoted-printable":
        body = binascii.a2b_qp(body)
    elif encoding not in _IDENTITY:
        raise _impossible(f"a part in the encoding {encoding[:40]!a}")
    if media_type.startswith("text/") and _is_mostly_ascii(body) and _has_clean_line_ends(body):
        encoded = _quoted_printable(body)
        if not _has_boundary(encoded, task):
            return encoded, "quoted-printable"
    return _with_end_of(body, _wrapped(binascii.b2a_base64(body, newline=False))), "base64"


def _labelled(header: bytes, fields: Message, encoding: str, body: bytes, task: _Task) -> bytes:
    """The header block with the encoding, and with what makes it a MIME entity where it was none."""
    header = with_field(without_field(header, _ENCODING), b"Content-Transfer-Encoding: " + encoding.encode())
    if "content-type" not in fields and not body.isascii():
        # RFC 1428 3: what it is was never said.
        charset = b"utf-8" if _is_utf8(body) else b"unknown-8bit"
        header = with_field(header, b"Content-Type: text/plain; charset=" + charset)
    if task.is_message and "mime-version" not in fields:
        header = with_field(header, b"MIME-Version: 1.0")
    return header


def _quoted_printable(body: bytes) -> bytes:
    encoded = binascii.b2a_qp(body, istext=True)
    # The standard library takes the line end of soft breaks from the first line; a single line has none.
    return encoded if b"\r\n" in body else encoded.replace(b"\n", b"\r\n")


def _wrapped(text: bytes) -> bytes:
    return b"\r\n".join([text[at : at + BASE64_LINE] for at in range(0, len(text), BASE64_LINE)])


def _with_end_of(body: bytes, encoded: bytes) -> bytes:
    """A body at the end of the message ends in CR LF, a part's does not: as it was before."""
    return encoded + b"\r\n" if body.endswith(b"\r\n") else encoded


def _is_mostly_ascii(body: bytes) -> bool:
    """Quoted-printable takes three octets for one over 127, base64 four for three of whatever."""
    return len(body.translate(None, bytes(range(128)))) * 6 <= len(body)


def _has_clean_line_ends(body: bytes) -> bool:
    return body.count(b"\r\n") == body.count(b"\n") == body.count(b"\r")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_boundary(text: bytes, task: _Task) -> bool:
    """Whether a line of *text* would be taken for a boundary line of a multipart around it."""
    return any(
        re.search(rb"^--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?:\r\n|\Z)", text, re.MULTILINE)
        for boundary in task.boundaries
    )
