"""Escaping keeps a line one line and its columns apart, and loses nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.eventlog.escape import escape, escape_address, escape_in_list, escape_quoted


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def undone(text: str) -> bytes:
    """What the module's head tells a reader to do, up to the decoding."""
    octets = re.sub(rb"\\x([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    assert b"\\" not in re.sub(rb"\\x[0-9A-F]{2}", b"", text.encode())
    return octets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with spaces and Grüße", "plain, with spaces and Grüße"),
        ("a@b", "a\\x40b"),
        ('say "hi"', "say \\x22hi\\x22"),
        ("back\\slash", "back\\x5Cslash"),
        ("\r\n\t\0", "\\x0D\\x0A\\x09\\x00"),
        ("\x7f", "\\x7F"),
        ("\x85", "\\xC2\\x85"),
        ("\u2028\u2029", "\\xE2\\x80\\xA8\\xE2\\x80\\xA9"),
        (decoded(b"\xff\xc3"), "\\xFF\\xC3"),
        ("\ud800", "\\xED\\xA0\\x80"),
    ],
)
def test_what_could_break_a_line_becomes_its_utf8_bytes(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("", ""),
        ("user42", "user42"),
        ("app@example.com", "app@example.com"),
        ('"a@b"@example.com', "\\x22a\\x40b\\x22@example.com"),
        ("a@b@c", "a\\x40b@c"),
        ("@", "@"),
        ("new\nline@example.com", "new\\x0Aline@example.com"),
    ],
)
def test_only_the_last_at_sign_of_an_address_stands(address: str, expected: str) -> None:
    assert escape_address(address) == expected


ANY = st.one_of(st.binary().map(decoded), st.text())


@given(st.binary())
def test_whatever_the_bytes_they_come_back(raw: bytes) -> None:
    for form in (escape, escape_address, escape_quoted, escape_in_list):
        assert undone(form(decoded(raw))) == raw


@given(ANY)
def test_the_result_is_one_line_of_clean_text(text: str) -> None:
    for form in (escape, escape_address, escape_quoted, escape_in_list):
        result = form(text)
        assert len(f"{result}.".splitlines()) == 1
        assert '"' not in result
        result.encode()
    assert "@" not in escape(text)
    assert escape_address(text).count("@") == ("@" in text)
    assert not set(escape_in_list(text)) & set(" ,=[]")
