"""What a server says it can do, read out of its reply to EHLO (RFC 5321 4.1.1.1)."""

from __future__ import annotations

import msgspec

from .replies import Reply


class Extensions(msgspec.Struct, frozen=True, kw_only=True):
    """The extensions that this client uses."""

    pipelining: bool = False
    """RFC 2920"""
    eight_bit: bool = False
    """8BITMIME, RFC 6152"""
    utf8: bool = False
    """SMTPUTF8, RFC 6531; it asks for 8BITMIME as well (3.1), so one without the other counts as neither."""
    dsn: bool = False
    """RFC 3461"""
    starttls: bool = False
    """RFC 3207"""
    size: bool = False
    """MAIL takes SIZE, RFC 1870."""
    max_size: int = 0
    """Octets that a message may have; 0: not said."""


NONE = Extensions()
"""What a server has that knows HELO alone."""


def read_extensions(reply: Reply) -> Extensions:
    """The extensions in a reply to EHLO; keywords that are not known here are skipped."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.partition(" ")
        found[keyword.upper()] = parameters.strip()
    size = found.get("SIZE", "")
    eight_bit = "8BITMIME" in found
    return Extensions(
        pipelining="PIPELINING" in found,
        eight_bit=eight_bit,
        utf8=eight_bit and "SMTPUTF8" in found,
        dsn="DSN" in found,
        starttls="STARTTLS" in found,
        size="SIZE" in found,
        max_size=int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0,
    )
