"""Content-Transfer-Encoding undone (RFC 2045 6).

Bytes in, bytes out. Strict where the standard would let a decoder guess: what is decoded here is sent
to a device as it is, so a byte that does not belong is told to the client, never dropped. White space
and line ends between base64 characters belong, and so does what a transport may do to quoted-printable:
white space added at the end of a line.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from mcmt.errors import MessageError

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

# RFC 2045 6.7: "=" is followed by two hex digits, or ends the line (a soft line break).
_bad_escape = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z).{0,2}").search


def _base64(body: bytes, where: str) -> bytes:
    packed = body.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(packed, strict_mode=True)
    except binascii.Error:
        pass
    foreign = packed.translate(None, _BASE64)
    if foreign:
        reason = f"{foreign[:1].decode('latin-1')!a} is not a base64 character"
    else:
        reason = "its length or its padding (=) is wrong"
    raise MessageError(554, "5.6.0", f"{where}: the base64 content is broken: {reason}")


def _quoted_printable(body: bytes, where: str) -> bytes:
    # RFC 2045 6.7 rule 3: white space at the end of a line was added on the way. Line by line and not by
    # a regular expression: long runs of spaces would make that quadratic.
    if b" \n" in body or b"\t\n" in body or b" \r\n" in body or b"\t\r\n" in body or body[-1:] in (b" ", b"\t"):
        body = b"\n".join(
            [
                line[:-1].rstrip(b" \t") + b"\r" if line.endswith(b"\r") else line.rstrip(b" \t")
                for line in body.split(b"\n")
            ]
        )
    if bad := _bad_escape(body):
        shown = ascii(bad[0].decode("latin-1"))
        raise MessageError(
            554, "5.6.0", f"{where}: the quoted-printable content is broken: {shown} is not = and two hex digits"
        )
    return binascii.a2b_qp(body)


def _identity(body: bytes, where: str) -> bytes:  # noqa: ARG001 - as its neighbours in the table
    return body


_DECODERS: dict[str, Callable[[bytes, str], bytes]] = {
    "": _identity,
    "7bit": _identity,
    "8bit": _identity,
    "binary": _identity,
    "base64": _base64,
    "quoted-printable": _quoted_printable,
}


def is_known(encoding: str) -> bool:
    """Whether ``undo`` can undo the encoding of that name (a field's value, any case)."""
    return encoding.lower() in _DECODERS


def undo(encoding: str, body: bytes, where: str) -> bytes:
    """*body* as it was before it was encoded; *where* names the part, for the reply.

    Raises MessageError 554 5.6.0: an encoding of no known name, or a body that is not what it says.
    """
    decoder = _DECODERS.get(encoding.lower())
    if decoder is None:
        known = ", ".join(filter(None, _DECODERS))
        text = f"{where}: Content-Transfer-Encoding {encoding[:40]!a} is not one of {known}"
        raise MessageError(554, "5.6.0", text)
    return decoder(body, where)
