"""The header of the PROXY protocol, versions 1 and 2: octets in, the client's address out, no I/O.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt. A header is read whole or not at all, and what is
not one is a fault: whoever is to send it sends nothing else first (2: the receiver must not guess).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from mcmt.errors import ProtocolError

# 2.1: the longest line, with its CR LF.
_LONGEST_LINE: Final = 107
_LINE_BEGINS: Final = b"PROXY "
_LINE = re.compile(
    r"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP(?:4 (?P<four>[0-9.]+) [0-9.]+|6 (?P<six>[0-9A-Fa-f:.]+) [0-9A-Fa-f:.]+) "
    r"(?:0|[1-9][0-9]{0,4}) (?:0|[1-9][0-9]{0,4}))"
)
# 2.2: twelve octets that no other protocol begins with, version and command, family and transport, length.
_BLOCK_BEGINS: Final = b"\r\n\r\n\0\r\nQUIT\n"
_BLOCK_HEAD: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_LENGTHS: Final = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


class Header(msgspec.Struct, frozen=True):
    """Who is connected to the proxy."""

    length: int
    """Octets that the header has."""
    address: str | None
    """The client's IP address. None: the connection is the proxy's own (a check), or it does not know."""


def read_header(buffer: bytes | bytearray) -> Header | None:
    """The header that *buffer* begins with; None: more has to come. Raises ProtocolError."""
    if _BLOCK_BEGINS.startswith(buffer[: len(_BLOCK_BEGINS)]):
        return _read_block(buffer)
    if _LINE_BEGINS.startswith(buffer[: len(_LINE_BEGINS)]):
        return _read_line(buffer)
    raise ProtocolError(f"it begins with {bytes(buffer[:16])!r}")


def _read_line(buffer: bytes | bytearray) -> Header | None:
    end = buffer.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(buffer) >= _LONGEST_LINE:
            raise ProtocolError(f"its line has more than {_LONGEST_LINE} octets")
        return None
    line = buffer[:end].decode("latin-1")
    match = _LINE.fullmatch(line)
    if match is None:
        raise ProtocolError(f"{line!a} is no header of version 1")
    four, six = match.group("four", "six")
    try:
        address = str(IPv4Address(four)) if four else _six(six) if six else None
    except ValueError:
        raise ProtocolError(f"{line!a} has no address") from None
    return Header(end + 2, address)


def _six(text: str | bytes) -> str:
    address = IPv6Address(text)
    return str(address.ipv4_mapped or address)


def _read_block(buffer: bytes | bytearray) -> Header | None:
    if len(buffer) < _BLOCK_HEAD:
        return None
    command, family = buffer[12], buffer[13]
    length = int.from_bytes(buffer[14:_BLOCK_HEAD], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProtocolError(f"its version and command are {command:#04x}")
    # 2.2: of LOCAL the family is ignored, and so is what follows.
    least = 0 if command == _LOCAL else _LENGTHS.get(family)
    if least is None or length < least:
        raise ProtocolError(f"its family is {family:#04x} with {length} octets")
    end = _BLOCK_HEAD + length
    if len(buffer) < end:
        return None
    address: str | None = None
    if command == _PROXY and family == _TCP4:
        address = str(IPv4Address(bytes(buffer[_BLOCK_HEAD : _BLOCK_HEAD + 4])))
    elif command == _PROXY and family == _TCP6:
        address = _six(bytes(buffer[_BLOCK_HEAD : _BLOCK_HEAD + 16]))
    return Header(end, address)
