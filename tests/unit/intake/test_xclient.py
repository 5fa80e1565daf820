"""The attributes of XCLIENT."""

from __future__ import annotations

import pytest

from mcmt.errors import MessageError
from mcmt.intake.xclient import read_attributes


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("ADDR=192.0.2.7", {"ADDR": "192.0.2.7"}),
        ("addr=IPV6:2001:DB8::7 name=[UNAVAILABLE]", {"ADDR": "2001:db8::7", "NAME": ""}),
        ("ADDR=2001:db8::7", {"ADDR": "2001:db8::7"}),
        ("ADDR=IPV6:::ffff:192.0.2.7", {"ADDR": "192.0.2.7"}),
        (
            "NAME=spike.porcupine.org PORT=65535 PROTO=esmtp",
            {"NAME": "spike.porcupine.org", "PORT": "65535", "PROTO": "ESMTP"},
        ),
        ("HELO=a+20b LOGIN=J+C3+BCrgen+2B", {"HELO": "a b", "LOGIN": "J\u00fcrgen+"}),
        ("ADDR=[unavailable] DESTADDR=10.0.0.1 DESTPORT=25", {"ADDR": "", "DESTADDR": "10.0.0.1", "DESTPORT": "25"}),
        ("LOGIN=[TEMPUNAVAIL]", {"LOGIN": ""}),
    ],
)
def test_attributes_are_decoded(argument: str, told: dict[str, str]) -> None:
    assert read_attributes(argument) == told


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "ADDR",
        "ADDR=",
        "ADDR=example.com",
        "ADDR=192.0.2.7/24",
        "COLOUR=red",
        "PORT=65536",
        "PORT=-1",
        "PROTO=LMTP",
        "HELO=a=b",
        "HELO=a+2",
        "LOGIN=a+0D+0AMAIL",
        "LOGIN=" + "x" * 256,
    ],
)
def test_what_is_no_attribute_is_501(argument: str) -> None:
    with pytest.raises(MessageError) as raised:
        read_attributes(argument)
    assert (raised.value.code, raised.value.enhanced) == (501, "5.5.4")
