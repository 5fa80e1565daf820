"""xtext: there and back, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.message.xtext import decode_xtext, encode_xtext


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_any_printable_text_survives(text: str) -> None:
    encoded = encode_xtext(text)
    assert " " not in encoded
    assert decode_xtext(encoded) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("", ""), ("a+2Bb+3dc", "a+b=c"), ("J+C3+BCrgen", "J\u00fcrgen"), ("+FF", "\ufffd"), ("a+0D+0Ab", "a\r\nb")],
)
def test_hexchars_are_octets_of_utf_8_in_either_case(value: str, text: str) -> None:
    assert decode_xtext(value) == text


@pytest.mark.parametrize("value", ["a b", "a=b", "a+", "a+2", "a+2G", "\u00fc", "a\n", "a\x00"])
def test_what_is_no_xtext_stands_for_nothing(value: str) -> None:
    assert decode_xtext(value) is None


@given(st.text())
def test_whatever_comes_is_decoded_or_is_none(value: str) -> None:
    assert decode_xtext(value) is None or value.isascii()
