"""Headers of the PROXY protocol, octet by octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import ProtocolError
from mcmt.wire.proxy import Header, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + (40000).to_bytes(2, "big") + (25).to_bytes(2, "big")
SIX = bytes.fromhex("20010db8" + "00" * 11 + "07" + "00" * 15 + "01") + FOUR[8:]


def block(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:DB8::7 ::1 40000 25\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 65535\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (block(0x21, 0x11, FOUR), "192.0.2.7"),
    (block(0x21, 0x21, SIX), "2001:db8::7"),
    # Type-length-values follow the addresses: as many as the length says.
    (block(0x21, 0x11, FOUR + b"\x02\x00\x0bexample.com"), "192.0.2.7"),
    (block(0x21, 0x00, b""), None),
    (block(0x21, 0x31, b"/run/socket".ljust(216, b"\0")), None),
    # A check by the proxy itself: whatever stands there is not read.
    (block(0x20, 0x00, b""), None),
    (block(0x20, 0x11, FOUR), None),
    (block(0x20, 0xFF, b"x" * 5), None),
]
BAD = [
    b"EHLO x\r\n",
    b"proxy TCP4 192.0.2.7 10.0.0.1 40000 25\r\n",
    b"PROXY TCP4 192.0.2.700 10.0.0.1 40000 25\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 40000 25\r\n",
    b"PROXY TCP6 192.0.2.7 10.0.0.1 40000 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 40000 25\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 040 25\r\n",
    b"PROXY TCP4 192.0.2.7  10.0.0.1 40000 25\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n",
    b"PROXY TCP5 192.0.2.7 10.0.0.1 40000 25\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY \xff\r\n",
    b"PROXY UNKNOWN " + b"x" * 93,
    block(0x11, 0x11, FOUR),
    block(0x22, 0x11, FOUR),
    block(0x21, 0x12, FOUR),
    block(0x21, 0x41, FOUR),
    block(0x21, 0x11, FOUR[:-1]),
    block(0x21, 0x21, FOUR),
    SIGNATURE[:-1] + b"\r",
]


@pytest.mark.parametrize(("octets", "address"), GOOD)
def test_a_header_is_read_when_it_is_whole_and_not_before(octets: bytes, address: str | None) -> None:
    for end in range(len(octets)):
        assert read_header(octets[:end]) is None
    assert read_header(octets) == Header(len(octets), address)
    assert read_header(bytearray(octets + b"EHLO x\r\n")) == Header(len(octets), address)


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_header_is_a_fault(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_header(octets)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda rest: SIGNATURE + rest)))
def test_no_octets_make_it_fail_otherwise(octets: bytes) -> None:
    try:
        header = read_header(octets)
    except ProtocolError:
        return
    assert header is None or header.length <= len(octets)
