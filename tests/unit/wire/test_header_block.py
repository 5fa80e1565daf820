"""Header blocks: what we build is what an HPACK decoder reads; what we recognise is what it would have decoded."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import ProtocolError
from mcmt.wire import header_block
from mcmt.wire.frames import ErrorCode
from mcmt.wire.header_block import StatusReader, decode_headers, field_name, field_value, indexed, literal

NAMES = st.from_regex(r":?[a-z0-9!#$%&'*+.^_`|~-]{1,300}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=1000).filter(
    lambda value: value == value.strip(" \t")
)


@given(NAMES, VALUES, st.booleans())
def test_a_literal_is_read_back_by_a_decoder_and_leaves_its_table_empty(name: str, value: str, never: bool) -> None:
    decoder = Decoder(max_header_list_size=1 << 20)
    (field,) = decoder.decode(literal(name, value, never))
    assert (str(field[0]), str(field[1])) == (name, value)
    assert field.indexable is not never
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize(("index", "name"), [(4, ":path"), (1, ":authority"), (23, "authorization"), (8, ":status")])
def test_a_name_of_the_static_table_is_sent_as_its_lowest_index(index: int, name: str) -> None:
    assert field_name(name)[0] & 0x0F == min(index, 15)
    assert len(field_name(name)) == (1 if index < 15 else 2)


def test_a_literal_is_its_name_and_its_value_prepared_apart() -> None:
    assert field_name("apns-id") + field_value("x") == literal("apns-id", "x")


@pytest.mark.parametrize("field", [(":method", "POST"), (":scheme", "https"), (":status", "200")])
def test_a_field_of_the_static_table_is_one_byte(field: tuple[str, str]) -> None:
    block = indexed(*field)
    assert len(block) == 1
    assert decode_headers(block) == (field,)


def test_a_field_that_the_static_table_lacks_cannot_be_indexed() -> None:
    with pytest.raises(ProtocolError, match="not in the static table: :method: PUT"):
        indexed(":method", "PUT")


@pytest.mark.parametrize("name", ["", "Upper", "a b", "a:b", "::path", "é", "a\r\n"])
def test_a_name_that_is_not_one_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="field name"):
        literal(name, "x")


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "\0", " a", "a ", "\ta", "a\n", "\ud800"])
def test_a_value_that_could_smuggle_another_field_is_refused(value: str) -> None:
    with pytest.raises(ProtocolError, match="field value"):
        literal("apns-topic", value)


@given(
    st.integers(100, 999),
    st.lists(st.tuples(NAMES.filter(lambda name: name[0] != ":"), VALUES.filter(str.isascii)), max_size=4),
    st.booleans(),
    st.integers(0, 2),
)
def test_the_status_told_is_the_one_a_decoder_reads(
    status: int, fields: list[tuple[str, str]], huffman: bool, forget: int
) -> None:
    encoder = Encoder()
    encoder.header_table_size = 0
    reader = StatusReader()
    for turn in range(3):
        block = encoder.encode([(":status", str(status)), *fields, ("apns-id", str(turn))], huffman=huffman)
        assert reader.read(block) == status
        assert decode_headers(block)[0] == (":status", str(status))


@pytest.mark.parametrize("form", [0x08, 0x0E, 0x18, 0x1E, 0x48, 0x4E])
def test_a_literal_status_met_before_is_told_without_decoding_what_follows(form: int) -> None:
    reader = StatusReader()
    status = bytes([form]) + b"\x03429"
    assert reader.read(status + literal("apns-id", "1")) == 429
    # Behind the status stands what no decoder takes: it was not read.
    assert reader.read(status + b"\xff\xff\xff") == 429
    with pytest.raises(ProtocolError):
        StatusReader().read(status + b"\xff\xff\xff")


def test_the_first_block_may_begin_by_shrinking_the_table() -> None:
    assert StatusReader().read(b"\x20\x88") == 200
    assert StatusReader().read(b"\x20\x88\xff\xff") == 200  # what follows is not decoded here either
    assert decode_headers(b"\x20\x88") == ((":status", "200"),)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x20",
        literal("date", "now"),
        literal("date", "now") + b"\x88",
        indexed(":method", "POST"),
        literal(":status", ""),
        literal(":status", "20"),
        literal(":status", "2000"),
        literal(":status", "099"),
        literal(":status", "2x0"),
        literal(":status", "-20"),
    ],
)
def test_a_block_that_does_not_begin_with_a_status_has_none(block: bytes) -> None:
    assert StatusReader().read(block) == 0


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # the first entry of a dynamic table, which is not there
        b"\x08",  # no value
        b"\x08\x0512",  # a value that is cut off
        b"\x88\x20",  # a size update behind a field
        b"\x3f\xe1\x1f",  # a table of 4,096 bytes; we allow 0
        b"\x00\x85\xff\xff\xff\xff\xff\x00",  # Huffman padding without an end
        b"\xff" * 30,  # an endless number
    ],
)
def test_what_is_no_header_block_is_a_compression_error(block: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_headers(block)
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_small_block_that_unpacks_to_a_large_list_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_headers(b"\x88" * 500)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_values_that_are_not_utf8_can_be_read() -> None:
    assert decode_headers(b"\x88\x00\x01x\x01\xff") == ((":status", "200"), ("x", "ÿ"))


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_a_protocol_error(block: bytes) -> None:
    codes = set()
    for call in (decode_headers, StatusReader().read):
        try:
            call(block)
        except ProtocolError as error:
            codes.add(error.code)
    assert codes <= {ErrorCode.COMPRESSION_ERROR, ErrorCode.ENHANCE_YOUR_CALM}


def test_what_is_remembered_of_statuses_is_bounded() -> None:
    reader = StatusReader()
    for form in header_block._LITERAL_STATUS:
        for status in range(100, 1000):
            assert reader.read(bytes([form, 3]) + str(status).encode()) == status
    assert len(reader._known) <= 64
