"""xtext (RFC 3461 4): text of any characters as printable ASCII without blanks. Pure; the one place that knows it.

xtext = *( xchar / hexchar ); xchar is "!" to "~" but "+" and "="; hexchar is "+" and two hex digits. They are written
in upper case, as the RFC has it, and read in either: some clients write lower case.
"""

from __future__ import annotations

import re

_is_xtext = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*").fullmatch
_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")


def encode_xtext(text: str) -> str:
    """Printable ASCII as xtext."""
    return "".join([each if "!" <= each <= "~" and each not in "+=" else f"+{ord(each):02X}" for each in text])


def decode_xtext(value: str) -> str | None:
    """What *value* stands for, as UTF-8; octets that are none are U+FFFD. None: it is no xtext. Control characters are
    the caller's to judge."""
    if not _is_xtext(value):
        return None
    if "+" not in value:
        return value
    return _HEXCHAR.sub(lambda found: bytes.fromhex(found[1].decode()), value.encode()).decode(errors="replace")
