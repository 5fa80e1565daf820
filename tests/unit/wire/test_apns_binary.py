"""The binary protocol: Apple's layouts and its old clients' byte for byte, and bytes that nobody should send."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import ProtocolError
from mcmt.wire.apns_binary import (
    MAX_FRAME,
    WORDS,
    ErrorPacket,
    ErrorPacketParser,
    Fault,
    FeedbackParser,
    FeedbackTuple,
    Notification,
    NotificationParser,
    Status,
    encode,
    error_packet,
    feedback_tuple,
    frame,
    prepare,
)

TOKEN = bytes(range(32))
U32 = st.integers(0, 2**32 - 1)

ERLANG_TOKEN = bytes.fromhex("ff496f96352abb7c875bedfc755287123456e14bfadade9ff6ba75360de65441")
ERLANG_PAYLOAD = b'{"aps":{"alert":"Hello world.","sound":"chime", "badge":1}}'
ERLANG_PACKET = b"\x00" + b"\x00\x20" + ERLANG_TOKEN + struct.pack(">H", len(ERLANG_PAYLOAD)) + ERLANG_PAYLOAD
"""``<<0:8, 32:16/big, Token:256/big, PayloadLength:16/big, Payload/binary>>``, as an ejabberd module has it."""

notifications = st.one_of(
    st.builds(Notification, st.just(0), st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=60)),
    st.builds(
        Notification, st.just(1), st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=60), U32, U32
    ),
    st.builds(
        Notification,
        st.just(2),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=1, max_size=60),
        st.none() | U32,
        st.none() | U32,
        st.none() | st.sampled_from([5, 10]),
    ),
)


def item(number: int, data: bytes) -> bytes:
    return struct.pack(">BH", number, len(data)) + data


def framed(*items: bytes) -> bytes:
    content = b"".join(items)
    return b"\x02" + struct.pack(">I", len(content)) + content


def read(data: bytes, *, cuts: list[int] | None = None, **limits: Any) -> tuple[list[Notification], Fault | None]:
    """What a parser takes of *data*, split at *cuts*."""
    parser = NotificationParser(**limits)
    edges = [0, *sorted(cuts or []), len(data)]
    found = [one for start, stop in itertools.pairwise(edges) for one in parser.receive(data[start:stop])]
    return found, parser.fault


def fault_of(data: bytes, **limits: Any) -> tuple[int, int | None]:
    found, fault = read(data, **limits)
    assert not found
    assert fault is not None
    assert fault.text
    return fault.status, fault.identifier


# -- what a client sends ------------------------------------------------------------------------------------------


def test_the_erlang_snippets_packet_is_understood() -> None:
    assert read(ERLANG_PACKET) == ([Notification(0, ERLANG_TOKEN, ERLANG_PAYLOAD)], None)
    assert encode(Notification(0, ERLANG_TOKEN, ERLANG_PAYLOAD)) == ERLANG_PACKET


def test_a_frame_of_apns_go_is_built_and_read_byte_for_byte() -> None:
    """Items 1 to 5 in their order; the length counts the items alone, 56 bytes and the payload."""
    payload = b'{"aps":{"alert":"hello world!"},"data":42}'
    expected = (
        b"\x02"
        + struct.pack(">I", 56 + len(payload))
        + b"\x01\x00\x20"
        + TOKEN
        + b"\x02"
        + struct.pack(">H", len(payload))
        + payload
        + b"\x03\x00\x04\x00\x00\x00\x07"
        + b"\x04\x00\x04\x65\x53\xf1\x00"
        + b"\x05\x00\x01\x0a"
    )
    assert frame(prepare(payload, 0x6553F100, 10), TOKEN, 7) == expected
    notification = Notification(2, TOKEN, payload, 7, 0x6553F100, 10)
    assert encode(notification) == expected
    assert read(expected) == ([notification], None)


def test_an_enhanced_packet_of_pyapns_is_built_and_read_byte_for_byte() -> None:
    packet = b"\x01" + b"\x00\x00\x00\x2a" + b"\x65\x53\xf1\x00" + b"\x00\x20" + TOKEN + b"\x00\x02{}"
    notification = Notification(1, TOKEN, b"{}", 42, 0x6553F100)
    assert encode(notification) == packet
    assert read(packet) == ([notification], None)


def test_node_apn_leaves_out_what_is_not_set_and_begins_with_identifier_0() -> None:
    packet = framed(item(1, TOKEN), item(2, b"{}"), item(3, bytes(4)))
    assert read(packet) == ([Notification(2, TOKEN, b"{}", 0)], None)


@given(st.permutations([(1, TOKEN), (2, b"{}"), (3, b"\0\0\0\7"), (4, bytes(4)), (5, b"\5"), (9, b"new"), (200, b"")]))
def test_items_come_in_any_order_and_unknown_ones_are_skipped(items: list[tuple[int, bytes]]) -> None:
    packet = framed(*[item(number, data) for number, data in items])
    assert read(packet) == ([Notification(2, TOKEN, b"{}", 7, 0, 5)], None)


@given(st.lists(notifications, max_size=6), st.data())
def test_however_the_bytes_are_split_the_same_notifications_are_read(
    sent: list[Notification], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    assert read(stream, cuts=cuts) == (sent, None)
    assert read(stream, cuts=list(range(len(stream)))) == (sent, None)


@given(st.lists(notifications, min_size=1, max_size=3), st.data())
def test_a_notification_that_is_cut_is_not_taken(sent: list[Notification], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    last = len(encode(sent[-1]))
    cut = data.draw(st.integers(1, last - 1))
    parser = NotificationParser()
    assert parser.receive(stream[:-cut]) == sent[:-1]
    assert parser.begun
    assert parser.fault is None
    assert parser.receive(stream[-cut:]) == sent[-1:]
    assert not parser.begun


@given(st.lists(notifications, max_size=2), st.binary(max_size=80), st.lists(notifications, max_size=2), st.data())
def test_junk_means_the_same_however_it_is_split_and_nothing_behind_a_fault_is_taken(
    before: list[Notification], junk: bytes, behind: list[Notification], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, before)) + junk + b"".join(map(encode, behind))
    found, fault = read(stream)
    assert found[: len(before)] == before
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    assert read(stream, cuts=cuts) == (found, fault)
    assert read(stream, cuts=list(range(len(stream)))) == (found, fault)
    if fault is not None:
        parser = NotificationParser()
        parser.receive(stream)
        assert parser.receive(encode(Notification(0, TOKEN, b"{}"))) == []


@pytest.mark.parametrize(
    ("packet", "status", "identifier"),
    [
        (framed(item(2, b"{}"), item(3, b"\0\0\0\7")), Status.MISSING_TOKEN, 7),
        (framed(item(1, TOKEN), item(3, b"\0\0\0\7")), Status.MISSING_PAYLOAD, 7),
        (framed(item(1, TOKEN), item(2, b""), item(3, b"\0\0\0\7")), Status.MISSING_PAYLOAD, 7),
        (framed(item(1, TOKEN[:31]), item(2, b"{}"), item(3, b"\0\0\0\7")), Status.TOKEN_SIZE, 7),
        (framed(item(1, TOKEN), item(2, bytes(4097)), item(3, b"\0\0\0\7")), Status.PAYLOAD_SIZE, 7),
        (framed(item(1, TOKEN), item(2, bytes(65535)), item(3, b"\0\0\0\7")), Status.PAYLOAD_SIZE, 7),
        (framed(item(1, TOKEN), item(2, b"{}"), item(3, b"\0\0\7")), Status.PROTOCOL_ERROR, None),
        (framed(item(3, b"\0\0\0\7"), item(5, b"")), Status.PROTOCOL_ERROR, 7),
        (framed(item(3, b"\0\0\0\7"), item(1, TOKEN), item(1, TOKEN)), Status.PROTOCOL_ERROR, 7),
        (framed(item(3, b"\0\0\0\7"), b"\x01\xff\xff"), Status.PROTOCOL_ERROR, 7),
        (framed(item(3, b"\0\0\0\7"), b"\x01"), Status.PROTOCOL_ERROR, 7),
        (framed(), Status.MISSING_TOKEN, None),
        (b"\x02" + struct.pack(">I", MAX_FRAME + 1), Status.PROTOCOL_ERROR, None),
        (b"\x00\x00\x21", Status.TOKEN_SIZE, None),
        (b"\x00\x00\x20" + TOKEN + b"\x00\x00", Status.MISSING_PAYLOAD, None),
        (b"\x01\0\0\0\7\0\0\0\0\x00\x00", Status.MISSING_TOKEN, 7),
        (b"\x01\0\0\0\7\0\0\0\0\x00\x20" + TOKEN + b"\x10\x01", Status.PAYLOAD_SIZE, 7),
        (b"GET / HTTP/1.1\r\n", Status.PROTOCOL_ERROR, None),
        (b"\x03", Status.PROTOCOL_ERROR, None),
    ],
)
def test_what_cannot_be_taken_is_told_with_apples_status_and_the_identifier(
    packet: bytes, status: Status, identifier: int | None
) -> None:
    assert fault_of(packet) == (status, identifier)


def test_a_gateway_says_which_sizes_it_takes() -> None:
    short = encode(Notification(2, b"\xab", bytes(5000), 1))
    assert fault_of(short) == (Status.TOKEN_SIZE, 1)
    found, fault = read(short, max_payload=5120, token_sizes=range(1, 101))
    assert (len(found), fault) == (1, None)


def test_frames_of_one_payload_to_many_tokens_differ_in_token_and_identifier_alone() -> None:
    prepared = prepare(b"{}", 0, 5)
    stream = b"".join(frame(prepared, bytes([number]) * 32, number) for number in range(256))
    found, fault = read(stream)
    assert fault is None
    assert found == [Notification(2, bytes([number]) * 32, b"{}", number, 0, 5) for number in range(256)]


def test_there_is_no_fourth_layout() -> None:
    with pytest.raises(ValueError, match="no command 3"):
        encode(Notification(3, TOKEN, b"{}"))


# -- what a gateway sends -----------------------------------------------------------------------------------------


def test_an_error_packet_has_six_bytes() -> None:
    assert error_packet(Status.INVALID_TOKEN, 0x01020304) == b"\x08\x08\x01\x02\x03\x04"


@given(st.integers(0, 255), U32, st.binary(max_size=9), st.integers(0, 6))
def test_an_error_packet_is_read_however_it_is_split(status: int, identifier: int, behind: bytes, cut: int) -> None:
    packet = error_packet(status, identifier)
    expected = ErrorPacket(status, identifier)
    assert ErrorPacketParser().receive(packet + behind) == expected
    parser = ErrorPacketParser()
    assert [parser.receive(bytes([byte])) for byte in packet] == [None] * 5 + [expected]
    halves = ErrorPacketParser()
    assert [halves.receive(packet[:cut]), halves.receive(packet[cut:])].count(expected) == 1


def test_half_an_error_packet_is_seen_to_be_half() -> None:
    parser = ErrorPacketParser()
    assert not parser.begun
    assert parser.receive(b"\x08\x08\x00") is None
    assert parser.begun


@given(st.binary(min_size=1, max_size=20).filter(lambda data: data[0] != 8))
def test_what_is_no_error_packet_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="error packet"):
        ErrorPacketParser().receive(data)


def test_every_status_has_its_words() -> None:
    assert set(WORDS) == set(Status)
    assert WORDS[8] == "Invalid Token"


tuples = st.lists(st.builds(FeedbackTuple, U32, st.binary(max_size=100)), max_size=6)


def test_a_feedback_tuple_of_32_bytes_has_38() -> None:
    assert feedback_tuple(0x6553F100, TOKEN) == b"\x65\x53\xf1\x00\x00\x20" + TOKEN


@given(tuples, st.data())
def test_feedback_is_read_however_it_is_split_and_whatever_the_length_of_the_tokens(
    sent: list[FeedbackTuple], data: st.DataObject
) -> None:
    stream = b"".join(feedback_tuple(one.time, one.token) for one in sent)
    cut = data.draw(st.integers(0, len(stream)))
    parser = FeedbackParser()
    assert parser.receive(stream[:cut]) + parser.receive(stream[cut:]) == sent
    assert not parser.begun
    bytewise = FeedbackParser()
    assert [one for byte in stream for one in bytewise.receive(bytes([byte]))] == sent


def test_a_list_that_is_cut_is_seen_to_be_cut() -> None:
    parser = FeedbackParser()
    whole = feedback_tuple(1, TOKEN)
    assert parser.receive(whole + whole[:10]) == [FeedbackTuple(1, TOKEN)]
    assert parser.begun
