"""Apple's binary protocol, both ways: what is read does not depend on how it was split, and can be written again."""

from __future__ import annotations

from mcmt.errors import ProtocolError
from mcmt.wire.apns_binary import (
    MAX_FRAME,
    ErrorPacketParser,
    FeedbackParser,
    NotificationParser,
    Status,
    encode,
    error_packet,
    feedback_tuple,
)
from tests.fuzz.octets import Octets, cut

LONGEST = 4096


def run(data: bytes) -> None:
    octets = Octets(data)
    seed = octets.number(2)
    stream = octets.rest()
    _notifications(stream, seed)
    _error_packet(stream, seed)
    _feedback(stream, seed)


def _notifications(stream: bytes, seed: int) -> None:
    whole, split = NotificationParser(max_payload=512), NotificationParser(max_payload=512)
    found = whole.receive(stream)
    pieces = []
    for piece in cut(stream, seed):
        pieces += split.receive(piece)
        assert len(split._rest) <= MAX_FRAME + 5 + 16
    assert (pieces, split.fault) == (found, whole.fault)
    assert whole.fault is None or whole.fault.status in set(Status)
    assert whole.fault is None or not whole.receive(stream)
    # What was taken is a client's own message, and as long as what it took of the stream at the least.
    again = NotificationParser(max_payload=512)
    written = b"".join(map(encode, found))
    assert again.receive(written) == found
    assert again.fault is None
    assert not again.begun
    assert len(written) <= len(stream)


def _error_packet(stream: bytes, seed: int) -> None:
    results = []
    for pieces in ([stream], cut(stream, seed)):
        parser = ErrorPacketParser()
        packet, refused = None, False
        for piece in pieces:
            try:
                packet = parser.receive(piece)
            except ProtocolError:
                refused = True
            if packet or refused:
                break
            assert len(parser._buffer) < 6
        results.append((packet, refused))
    assert results[0] == results[1] or not stream
    packet, refused = results[0]
    if packet is not None:
        assert stream.startswith(error_packet(packet.status, packet.identifier))
    assert refused == (bool(stream) and stream[0] != 8)


def _feedback(stream: bytes, seed: int) -> None:
    whole, split = FeedbackParser(), FeedbackParser()
    found = whole.receive(stream)
    pieces = []
    for piece in cut(stream, seed):
        pieces += split.receive(piece)
    assert pieces == found
    written = b"".join(feedback_tuple(each.time, each.token) for each in found)
    assert stream.startswith(written)
    assert whole.begun == split.begun == (len(written) < len(stream))
