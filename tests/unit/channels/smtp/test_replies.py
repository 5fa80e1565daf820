"""Replies are read whole, byte by byte, and with junk behind them; what is none is a protocol error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.smtp.extensions import Extensions, read_extensions
from channels.smtp.replies import MAX_LINE, MAX_LINES, MAX_TEXT, Reply, ReplyReader
from mcmt.errors import ProtocolError


def read(data: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.feed(data)
    return list(iter(reader.next, None))


@pytest.mark.parametrize(
    ("data", "code", "enhanced", "text"),
    [
        (b"250 2.1.5 ok\r\n", 250, "2.1.5", "2.1.5 ok"),
        (b"250\r\n", 250, "", ""),
        (b"250 \r\n", 250, "", ""),
        (b"354 go on\n", 354, "", "go on"),
        (b"550-5.1.1 no such\r\n550-5.1.1  user\r\n550 5.1.1 here\r\n", 550, "5.1.1", "5.1.1 no such user here"),
        (b"550-one\r\n550 5.7.1 two\r\n", 550, "5.7.1", "5.7.1 one two"),
        (b"550 4.1.1 of another class\r\n", 550, "", "4.1.1 of another class"),
        (b"550 5.1.1\r\n", 550, "5.1.1", "5.1.1"),
        (b"550 5.1.10 null MX\r\n", 550, "5.1.10", "5.1.10 null MX"),
        (b"599 \xff\xfe\r\n", 599, "", "\ufffd\ufffd"),
    ],
)
def test_a_reply_is_read_however_it_is_cut(data: bytes, code: int, enhanced: str, text: str) -> None:
    (whole,) = read(data)
    assert (whole.code, whole.enhanced, whole.text) == (code, enhanced, text)
    reader = ReplyReader()
    found: list[Reply] = []
    for byte in data:
        reader.feed(bytes([byte]))
        found += iter(reader.next, None)
    assert found == [whole]
    assert reader.empty


@pytest.mark.parametrize("junk", [b"hello\r\n", b"1xx\r\n", b"25\r\n", b"250x\r\n", b"650 ok\r\n", b"\r\n", b"\0\r\n"])
def test_junk_behind_a_reply_is_told_after_it(junk: bytes) -> None:
    reader = ReplyReader()
    reader.feed(b"250 ok\r\n" + junk)
    assert str(reader.next()) == "250 ok"
    with pytest.raises(ProtocolError, match="expected a reply"):
        reader.next()


def test_nothing_a_server_sends_grows_without_bound() -> None:
    with pytest.raises(ProtocolError, match="octets"):
        read(b"250 " + b"x" * MAX_LINE)
    with pytest.raises(ProtocolError, match="lines"):
        read(b"250-x\r\n" * MAX_LINES)
    (long,) = read(b"250-" + b"x" * 400 + b"\r\n250 " + b"y" * 400 + b"\r\n")
    assert len(long.text) == MAX_TEXT


@given(st.binary(max_size=200))
def test_any_octets_are_replies_or_a_protocol_error(data: bytes) -> None:
    reader = ReplyReader()
    reader.feed(data)
    try:
        for reply in iter(reader.next, None):
            assert 200 <= reply.code <= 599
            assert "\n" not in reply.text
    except ProtocolError:
        pass


def test_extensions_are_read_whatever_their_case_and_unknown_ones_are_skipped() -> None:
    (reply,) = read(
        b"250-mx SIZE 7\r\n250-Pipelining\r\n250-size 1000\r\n250-8bitmime\r\n250-X-OTHER y\r\n250 SMTPUTF8\r\n"
    )
    assert read_extensions(reply) == Extensions(pipelining=True, size=True, max_size=1000, eight_bit=True, utf8=True)


@pytest.mark.parametrize("size", ["", " abc", " -1", " 0", " " + "9" * 21])
def test_a_size_that_says_nothing_is_no_limit(size: str) -> None:
    (reply,) = read(f"250-mx\r\n250 SIZE{size}\r\n".encode())
    assert read_extensions(reply) == Extensions(size=True)


def test_smtputf8_counts_only_with_8bitmime() -> None:
    (reply,) = read(b"250-mx\r\n250 SMTPUTF8\r\n")
    assert read_extensions(reply) == Extensions()
