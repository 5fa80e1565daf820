"""The DATA reader: what ends a message, what is in it, and what is refused."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import MessageError
from mcmt.intake.chunks import ChunkReader
from mcmt.intake.data import BareLineEndError, DataReader

MAX = 1000


def read(octets: bytes, max_size: int = MAX, max_line: int = 100) -> tuple[bytes, bytes]:
    """The message and what follows it; fails when *octets* does not end one."""
    buffer = bytearray(octets)
    reader = DataReader(max_size, max_line)
    assert reader.feed(buffer)
    return reader.content(), bytes(buffer)


def read_in_pieces(octets: bytes, sizes: list[int]) -> tuple[object, bytes]:
    """The same with the octets arriving in pieces; the outcome is the message, or the code of the refusal."""
    buffer = bytearray()
    reader = DataReader(60, 20)
    position = 0
    try:
        for size in [*sizes, len(octets)]:
            buffer += octets[position : position + size]
            position += size
            if reader.feed(buffer):
                rest = bytes(buffer) + octets[position:]
                return reader.content(), rest
    except BareLineEndError as error:
        return error.code, b""
    except MessageError as error:
        return error.enhanced, bytes(buffer) + octets[position:]
    return None, b""


def test_the_dot_line_ends_the_message_and_what_follows_is_left() -> None:
    assert read(b"a\r\nb\r\n.\r\nMAIL FROM:<>\r\n") == (b"a\r\nb\r\n", b"MAIL FROM:<>\r\n")


def test_a_message_may_be_empty() -> None:
    assert read(b".\r\nQUIT\r\n") == (b"", b"QUIT\r\n")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b"...a\r\n..b\r\n.\r\n", b"..a\r\n.b\r\n"),
        # RFC 5321 4.5.2: a period that nobody stuffed goes as well.
        (b".a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_the_first_period_of_a_line_is_taken_off(sent: bytes, meant: bytes) -> None:
    assert read(sent) == (meant, b"")


@pytest.mark.parametrize("cut", range(1, 9))
def test_the_end_is_found_however_it_is_cut(cut: int) -> None:
    octets = b"ab\r\n.\r\nX"
    buffer = bytearray(octets[:cut])
    reader = DataReader(MAX)
    ended = reader.feed(buffer)
    buffer += octets[cut:]
    assert ended or reader.feed(buffer)
    assert (reader.content(), bytes(buffer)) == (b"ab\r\n", b"X")


@pytest.mark.parametrize("bare", [b"\r", b"\n", b"\r\r\n", b"\n\r\n", b"\n\r", b"\r\n\n"])
@pytest.mark.parametrize("before", [b"", b"line\r\nhalf"])
@pytest.mark.parametrize("after", [b"x\r\n.\r\n", b"x"])
def test_a_bare_cr_or_lf_is_told_at_once(bare: bytes, before: bytes, after: bytes) -> None:
    with pytest.raises(BareLineEndError) as raised:
        DataReader(MAX).feed(bytearray(before + bare + after))
    assert (raised.value.code, raised.value.enhanced) == (550, "5.6.11")


def test_the_refusal_names_the_line() -> None:
    with pytest.raises(BareLineEndError, match="line 3 of the message"):
        read(b"one\r\ntwo\r\nthr\nee\r\n.\r\n")
    with pytest.raises(MessageError, match="line 2 of the message has a NUL"):
        read(b"one\r\nt\0o\r\n.\r\n")
    with pytest.raises(MessageError, match="line 2 of the message is longer than 100 octets"):
        read(b"one\r\n" + b"x" * 101 + b"\r\n.\r\n")


def test_a_cr_at_the_end_of_a_read_may_still_become_a_line_end() -> None:
    reader, buffer = DataReader(MAX), bytearray(b"one\r")
    assert not reader.feed(buffer)
    buffer += b"\n.\r"
    assert not reader.feed(buffer)
    buffer += b"\n"
    assert reader.feed(buffer)
    assert reader.content() == b"one\r\n"


def test_a_line_of_64_kb_passes_and_one_octet_more_does_not() -> None:
    line = b"x" * 65_536
    assert DataReader(200_000).feed(bytearray(line + b"\r\n.\r\n"))
    assert read(line + b"\r\n.\r\n", 200_000, 65_536)[0] == line + b"\r\n"
    with pytest.raises(MessageError, match="longer than 65536"):
        read(line + b"x\r\n.\r\n", 200_000, 65_536)


def test_what_the_limit_counts_is_the_message_without_its_transparency() -> None:
    assert read(b"..\r\n" * 10 + b".\r\n", max_size=30)[0] == b".\r\n" * 10
    with pytest.raises(MessageError, match="larger than 29 octets") as raised:
        read(b"..\r\n" * 10 + b".\r\n", max_size=29)
    assert (raised.value.code, raised.value.enhanced) == (552, "5.3.4")


@pytest.mark.parametrize("block", [b"line\r\n" * 100, b"x" * 600])
def test_too_much_is_read_to_its_end_and_not_kept(block: bytes) -> None:
    reader, buffer = DataReader(2000, 300), bytearray()
    most = 0
    for _ in range(100):
        buffer += block
        assert not reader.feed(buffer)
        most = max(most, len(buffer) + sum(map(len, reader._blocks)))
    buffer += b"\r\n.\r\nNEXT"
    assert reader.feed(buffer)
    assert bytes(buffer) == b"NEXT"
    assert most <= 2000 + 600
    with pytest.raises(MessageError):
        reader.content()


def test_the_last_period_of_a_line_that_was_too_long_does_not_end_the_message() -> None:
    reader, buffer = DataReader(MAX, 100), bytearray(b"x" * 200 + b".")
    assert not reader.feed(buffer)
    buffer += b"\r\nmore\r\n.\r\nNEXT"
    assert reader.feed(buffer)
    assert bytes(buffer) == b"NEXT"


@given(
    st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"\0", b"a", b"..", b"\r\n.\r\n", b"b" * 21]), max_size=25),
    st.lists(st.integers(1, 7), max_size=30),
)
def test_how_the_octets_arrive_changes_nothing(words: list[bytes], sizes: list[int]) -> None:
    """Whole or in pieces: the same message or refusal, and the same octets are left for the next command."""
    octets = b"".join(words)
    whole = read_in_pieces(octets, [])
    pieces = read_in_pieces(octets, sizes)
    if whole[0] != 550 and pieces[0] != 550:
        assert pieces == whole
    else:
        assert pieces[0] == whole[0] == 550


@given(st.binary(max_size=200))
def test_no_message_has_a_bare_line_end_and_its_end_is_the_only_one(octets: bytes) -> None:
    """Whatever comes: what is accepted has CR and LF in pairs only, and ended at the first CR LF "." CR LF."""
    outcome, rest = read_in_pieces(octets + b"\r\n.\r\nrest", [])
    if isinstance(outcome, bytes):
        assert outcome.replace(b"\r\n", b"").count(b"\r") == outcome.replace(b"\r\n", b"").count(b"\n") == 0
        sent = (b"\r\n" + octets + b"\r\n.\r\nrest").partition(b"\r\n.\r\n")
        assert rest == sent[2]


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_a_message_that_comes_by_the_octet_is_kept_in_not_much_more_memory_than_it_counts(verb: str) -> None:
    piece, pieces = b"\r\n", 20_000
    tracemalloc.start()
    try:
        if verb == "DATA":
            reader: DataReader | ChunkReader = DataReader(MAX * MAX)
            for _ in range(pieces):
                reader.feed(bytearray(piece))
        else:
            reader = chunks = ChunkReader(MAX * MAX)
            for _ in range(pieces):
                chunks.begin(len(piece), last=False)
                chunks.feed(bytearray(piece))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.held == pieces * len(piece)
    assert kept < 2 * reader.held
    assert reader.content() == piece * pieces
