"""SMTP replies (RFC 5321 4.2, RFC 2034): code, enhanced status code, text, as octets.

Rules: every reply to a command has an enhanced code (but 3xx, the greeting, and the answers to EHLO and HELO: RFC 2034
section 4); a reply is one line whatever text went into it, so a client cannot write replies of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

# RFC 5321 4.5.3.1.5: 512 octets with code and CR LF.
_LINE = 512 - 2
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HAS_ENHANCED = re.compile(r"[245]\d\d[ -][245]\.\d{1,3}\.\d{1,3} ")

ENHANCED: Mapping[str, str] = MappingProxyType(
    {
        "221": "2.0.0",
        "235": "2.7.0",
        "250": "2.0.0",
        "252": "2.5.0",
        "421": "4.3.2",
        "451": "4.3.0",
        "454": "4.7.0",
        "500": "5.5.2",
        "501": "5.5.4",
        "502": "5.5.1",
        "503": "5.5.1",
        "504": "5.5.4",
        "530": "5.7.0",
        "554": "5.0.0",
    }
)
"""What goes with a code where aiosmtpd's own reply has none (RFC 3463)."""


def reply(code: int, enhanced: str, text: str) -> bytes:
    """One reply line with its CR LF: control characters become spaces, what is not ASCII is escaped; cut to 512."""
    line = _CONTROL.sub(" ", f"{code} {enhanced} {text}").encode("ascii", "backslashreplace")
    return line[:_LINE] + b"\r\n"


def complete(line: str) -> bytes:
    """A reply line of aiosmtpd's, with the enhanced code that it may lack."""
    if line[:1] == "3" or _HAS_ENHANCED.match(line):
        return _CONTROL.sub(" ", line).encode("ascii", "backslashreplace")[:_LINE] + b"\r\n"
    code = line[:3]
    return reply(int(code), ENHANCED.get(code, f"{code[0]}.0.0"), line[4:])
