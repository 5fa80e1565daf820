"""Replies are one line with an enhanced code, whatever went into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.intake.reply import complete, reply


@given(st.text())
def test_a_reply_is_one_line_of_ascii_within_the_limit(text: str) -> None:
    line = reply(550, "5.7.1", text)
    assert line.endswith(b"\r\n")
    assert len(line) <= 512
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert line.startswith(b"550 5.7.1 ")


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ("250 OK", b"250 2.0.0 OK\r\n"),
        ("502 EXPN not implemented", b"502 5.5.1 EXPN not implemented\r\n"),
        ("501 Syntax: NOOP", b"501 5.5.4 Syntax: NOOP\r\n"),
        ("235 2.7.0 Authentication successful", b"235 2.7.0 Authentication successful\r\n"),
        ("334 VXNlcg==", b"334 VXNlcg==\r\n"),
        ("555 what", b"555 5.0.0 what\r\n"),
    ],
)
def test_replies_of_aiosmtpd_get_the_code_that_they_lack(own: str, sent: bytes) -> None:
    assert complete(own) == sent
