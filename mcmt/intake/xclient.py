"""What XCLIENT tells of a client (Postfix's extension: https://www.postfix.org/XCLIENT_README.html). Pure.

xclient-command = XCLIENT 1*( SP attribute-name"="attribute-value )     attribute-value = xtext
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from typing import Final

from mcmt.errors import MessageError
from mcmt.message.xtext import decode_xtext

ATTRIBUTES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
ANNOUNCED: Final = f"XCLIENT {' '.join(ATTRIBUTES)}"
"""The extension as EHLO tells it."""
_LONGEST: Final = 255
_UNAVAILABLE: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
_is_printable = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+").fullmatch


def read_attributes(argument: str) -> dict[str, str]:
    """The attributes by name in upper case, decoded; what is not available is ``""``. Raises MessageError 501."""
    found: dict[str, str] = {}
    for word in argument.split():
        name, given, value = word.partition("=")
        name = name.upper()
        if name not in ATTRIBUTES or not given:
            raise MessageError(501, "5.5.4", f"{word} is no attribute; expected {'=, '.join(ATTRIBUTES)}=")
        text = decode_xtext(value)
        if not text:
            raise MessageError(501, "5.5.4", f"{name} is not xtext (RFC 3461 4)")
        if value.upper() in _UNAVAILABLE:
            found[name] = ""
            continue
        if len(text) > _LONGEST or not _is_printable(text):
            raise MessageError(501, "5.5.4", f"{name} has control characters, or more than {_LONGEST} of any")
        found[name] = _CHECKS.get(name, str)(text)
    if not found:
        raise MessageError(501, "5.5.4", "Syntax: XCLIENT attribute=value ...")
    return found


def _address(text: str) -> str:
    try:
        # "IPV6:" stands before an IPv6 address, which has no brackets.
        address = ip_address(text[5:] if text[:5].upper() == "IPV6:" else text)
    except ValueError:
        raise MessageError(501, "5.5.4", f"{text} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address).partition("%")[0]


def _port(text: str) -> str:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > 65535:
        raise MessageError(501, "5.5.4", f"{text} is not a port")
    return text


def _protocol(text: str) -> str:
    if text.upper() not in ("SMTP", "ESMTP"):
        raise MessageError(501, "5.5.4", "PROTO is SMTP or ESMTP")
    return text.upper()


_CHECKS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"ADDR": _address, "DESTADDR": _address, "PORT": _port, "DESTPORT": _port, "PROTO": _protocol}
)
