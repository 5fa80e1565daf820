"""Header blocks made sendable: long lines folded, octets over 127 encoded.

Bytes in, bytes out; lines end in CR LF. Folding adds a CR LF in front of white space that is there (RFC 5322 2.2.3),
so an unfolded field is what it was. Characters beyond ASCII become encoded words (RFC 2047) in text and in names
before addresses, and parameters in their own notation (RFC 2231); octets that are no UTF-8 are called unknown-8bit
(RFC 1428 3). Where neither is possible, in an address, a message id, a signature, it is a MessageError.
"""

from __future__ import annotations

import re
from email.charset import UNKNOWN8BIT
from email.errors import MessageError as EmailError
from email.header import Header
from email.message import Message
from email.utils import formataddr, getaddresses

from mcmt.errors import MessageError

from .entity import MAX_LINE, has_long_line

_ADDRESSES = frozenset(
    prefix + name for prefix in ("", "resent-") for name in ("from", "sender", "reply-to", "to", "cc", "bcc")
)
_PARAMETERS = frozenset({"content-type", "content-disposition"})
_STRUCTURED = frozenset(
    {
        *("received", "return-path", "date", "message-id", "in-reply-to", "references", "resent-date"),
        *("resent-message-id", "mime-version", "content-transfer-encoding", "content-id", "delivered-to"),
        *("dkim-signature", "authentication-results", "arc-seal", "arc-message-signature"),
        *("arc-authentication-results", "disposition-notification-to"),
    }
)
"""Fields in which no encoded word may stand (RFC 2047 5)."""

_fields = re.compile(rb"[^\r\n][^\n]*\n?(?:[ \t][^\n]*(?:\n|\Z))*").findall
_name = re.compile(rb"([!-9;-~]+)[ \t]*:").match


def repair(header: bytes, *, ascii_only: bool) -> bytes:
    """*header* so that it fits. Raises MessageError 554 5.6.0, or 5.6.7 for characters that cannot be encoded."""
    if b"\0" in header:
        raise MessageError(554, "5.6.0", "the header has a NUL octet")
    if header.isascii() or not ascii_only:
        return fold_lines(header)
    return fold_lines(b"".join([field if field.isascii() else _to_ascii(field) for field in _fields(header)]))


def fold_lines(block: bytes) -> bytes:
    """*block* with every long line folded at white space. Raises MessageError 554 5.6.0 where there is none."""
    if not has_long_line(block):
        return block
    return b"".join([_fold(line) if len(line) > MAX_LINE + 2 else line for line in block.splitlines(keepends=True)])


def without_field(header: bytes, name: str) -> bytes:
    """*header* without its fields called *name* (lower case)."""
    return b"".join([field for field in _fields(header) if _name_of(field) != name])


def with_field(header: bytes, field: bytes) -> bytes:
    """*header* with one field more at its end."""
    end = b"" if not header or header.endswith(b"\r\n") else b"\r\n"
    return b"".join([header, end, field, b"\r\n"])


def _name_of(field: bytes) -> str:
    match = _name(field)
    return match[1].decode().lower() if match else ""


def _fold(line: bytes) -> bytes:
    pieces: list[bytes] = []
    name = _name_of(line)
    if name in _ADDRESSES and b'"' not in line:
        # RFC 5322 3.4: white space may stand behind the comma of a list.
        line = re.sub(rb",(?=\S)", b", ", line)
    while len(line) > MAX_LINE + 2:
        # A line of white space alone would end the header block for some.
        text = re.search(rb"[^ \t]", line)
        first = text.end() if text else len(line)
        at = max(line.rfind(b" ", first, MAX_LINE + 1), line.rfind(b"\t", first, MAX_LINE + 1))
        if at < 0 or not line[at:].strip():
            where = f"the field {name}" if name else "a field"
            raise MessageError(554, "5.6.0", f"{where} has more than {MAX_LINE} octets without white space")
        pieces.append(line[:at])
        line = line[at:]
    return b"\r\n".join([*pieces, line])


def _to_ascii(field: bytes) -> bytes:
    raw_name, _, raw_value = field.partition(b":")
    name = raw_name.strip().decode().lower()
    value = raw_value.replace(b"\r\n", b"").strip(b" \t")
    try:
        text, charset = value.decode(), "utf-8"
    except UnicodeDecodeError:
        text, charset = value.decode("ascii", "surrogateescape"), UNKNOWN8BIT
    try:
        if name in _ADDRESSES:
            encoded = _addresses(text, charset)
        elif name in _PARAMETERS:
            encoded = _parameters(name, text, charset)
        elif name in _STRUCTURED:
            raise ValueError
        else:
            encoded = Header(text, charset, header_name=name, continuation_ws=" ").encode(linesep="\r\n")
        return raw_name + b": " + encoded.encode("ascii") + b"\r\n"
    except (ValueError, LookupError, EmailError):
        raise MessageError(
            554, "5.6.7", f"the field {name} is not ASCII, cannot be made so, and the server does not take such"
        ) from None


def _addresses(text: str, charset: str) -> str:
    mailboxes = getaddresses([text])
    if not mailboxes or not all(address and address.isascii() for _, address in mailboxes):
        raise ValueError
    return ",\r\n ".join(
        [
            formataddr((name, address))
            if name.isascii()
            else f"{Header(name, charset, maxlinelen=70).encode(linesep=chr(13) + chr(10))} <{address}>"
            for name, address in mailboxes
        ]
    )


def _parameters(name: str, text: str, charset: str) -> str:
    if charset == UNKNOWN8BIT:
        text, charset = text.encode("ascii", "surrogateescape").decode("latin-1"), "iso-8859-1"
    message = Message()
    message[name] = text
    for parameter, value in message.get_params([], header=name)[1:]:
        if isinstance(value, str) and not value.isascii():
            message.set_param(parameter, value, header=name, charset=charset, replace=True)
    value = message[name]
    if not isinstance(value, str) or not value.isascii():
        raise ValueError
    return re.sub(r";\s+", ";\r\n ", value)
