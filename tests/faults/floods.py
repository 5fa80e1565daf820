"""Rows of frames that want to exhaust: too many, too large, malformed, or blocks that unpack to much.

What is known of such attacks: RFC 9113 section 10.5 (denial of service); CVE-2019-9511 to 9518 (floods of PING,
SETTINGS, empty frames, resets); CVE-2024-27316 and its kin (CONTINUATION); RFC 7541 section 7.3 (bombs).
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    MAX_31,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    Script,
    block,
    frame,
    goaway,
    settings,
    u32,
)
from tests.faults.responses import answers_once_with
from tests.faults.row import MB, Defence, Expectation, Row, Seen, connections, expect, goodbye, in_doubt, said

VOLUME = 48 * MB
"""Octets of a flood; what a process may grow by is a third of it."""
ANSWERED_FIRST = 20
UNANSWERED = 30


def pours(begin: Callable[[int], bytes], piece: Callable[[int], bytes], octets: int = VOLUME) -> Script:
    """The first connection answers 20 of 50 requests, then *begin* and *piece* over and over; the others serve."""

    async def script(peer: Peer) -> None:
        if peer.number:
            await peer.serve()
            return
        peer.greet()
        some = await peer.several(ANSWERED_FIRST + UNANSWERED)
        for request in some[:ANSWERED_FIRST]:
            peer.accept(request)
        stream = some[-1].stream
        peer.send(begin(stream))
        await peer.pour(piece(stream), octets)
        await peer.end()

    return script


def nothing(stream: int) -> bytes:
    return b""


@said("long before the flood is over")
def ended_early(seen: Seen) -> None:
    """The connection was ended long before the flood was over, and not by the gateway."""
    poured = seen.stage.gateway.poured
    expect(poured < VOLUME / 2, f"{poured / MB:.0f} MB of the flood were taken")


def _flood(
    name: str,
    piece: Callable[[int], bytes],
    defence: Defence,
    begin: Callable[[int], bytes] = nothing,
    code: int = ENHANCE_YOUR_CALM,
) -> Row:
    return Row(
        name=name,
        fault=pours(begin, piece),
        count=ANSWERED_FIRST + UNANSWERED,
        options={"delivery_response_timeout": "5s"},
        expect=(in_doubt("before the answer"), goodbye(code), ended_early, connections(2, 2)),
        defence=defence,
    )


def _opened(stream: int) -> bytes:
    return frame(HEADERS, 0, stream, OK)


def _begun(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, OK)


NO_BLOCK_LIMIT = Defence(
    "mcmt/wire/inbound.py: _continuation() takes a block of 16 frames, 16 KB (behind it: 20,000 idle frames)",
    {
        "mcmt.wire.inbound.MAX_CONTINUATIONS": 10**9,
        "mcmt.wire.inbound.MAX_HEADER_LIST": 10**9,
        "mcmt.wire.http2.MAX_IDLE_FRAMES": 10**9,
    },
)
NO_REPLY_LIMIT = Defence(
    "mcmt/wire/outbound.py: _reply() queues 1,000 answers to a burst (behind it: 20,000 idle frames)",
    {"mcmt.wire.outbound.MAX_REPLIES": 10**9, "mcmt.wire.http2.MAX_IDLE_FRAMES": 10**9},
)
NO_EMPTY_LIMIT = Defence(
    "mcmt/wire/inbound.py: _data() takes 100 empty frames of a stream (behind it: 20,000 idle frames)",
    {"mcmt.wire.inbound.MAX_EMPTY_FRAMES": 10**9, "mcmt.wire.http2.MAX_IDLE_FRAMES": 10**9},
)
NO_IDLE_LIMIT = Defence(
    "mcmt/wire/http2.py: receive() takes 20,000 frames that bring no answer nearer",
    {"mcmt.wire.http2.MAX_IDLE_FRAMES": 10**9},
)

FLOODS = (
    _flood(
        "CONTINUATION flood, frames of 16 KB",
        lambda stream: frame(CONTINUATION, 0, stream, bytes(16_384)),
        NO_BLOCK_LIMIT,
        _opened,
    ),
    _flood("CONTINUATION flood, empty", lambda stream: frame(CONTINUATION, 0, stream), NO_BLOCK_LIMIT, _opened),
    _flood("PING flood", lambda stream: frame(PING, 0, 0, bytes(8)), NO_REPLY_LIMIT),
    _flood("SETTINGS flood", lambda stream: settings(streams=1000), NO_REPLY_LIMIT),
    _flood("empty DATA flood", lambda stream: frame(DATA, 0, stream), NO_EMPTY_LIMIT, _begun),
    _flood(
        "1xx flood",
        lambda stream: frame(HEADERS, END_HEADERS, stream, block((":status", "103"))),
        NO_IDLE_LIMIT,
    ),
    _flood("WINDOW_UPDATE flood", lambda stream: frame(WINDOW_UPDATE, 0, 1, u32(1)), NO_IDLE_LIMIT),
    _flood("RST_STREAM flood on closed streams", lambda stream: frame(RST_STREAM, 0, 1, u32(8)), NO_IDLE_LIMIT),
    _flood("PRIORITY flood", lambda stream: frame(PRIORITY, 0, stream, bytes(5)), NO_IDLE_LIMIT),
    _flood("flood of frames that nobody knows", lambda stream: frame(0xBE, 0, 0, b"junk"), NO_IDLE_LIMIT),
    _flood("GOAWAY flood", lambda stream: goaway(MAX_31), NO_IDLE_LIMIT),
    _flood("flood of acknowledgements", lambda stream: frame(SETTINGS, ACK, 0), NO_IDLE_LIMIT),
    Row(
        name="an answer of 128 KB",
        fault=answers_once_with(_begun, *[lambda stream: frame(DATA, 0, stream, bytes(16_384))] * 8),
        expect=(in_doubt("response body above 65536 bytes"), connections(1), goodbye()),
        defence=Defence("mcmt/wire/inbound.py: _data() takes a body of 64 KB", {"mcmt.wire.inbound.MAX_BODY": 10**9}),
    ),
)


# -- header bombs -----------------------------------------------------------------------------------------------------

UNKNOWN_STATUS = b"\x08\x03299"
"""A status that no table has: its block is decoded."""


def sends_once(payload: Callable[[int], bytes]) -> Script:
    """The first connection answers 20 of 50 requests and then says this; the others serve."""

    async def script(peer: Peer) -> None:
        if peer.number:
            await peer.serve()
            return
        peer.greet()
        some = await peer.several(ANSWERED_FIRST + UNANSWERED)
        for request in some[:ANSWERED_FIRST]:
            peer.accept(request)
        peer.send(payload(some[-1].stream))
        await peer.end()

    return script


def _broken(name: str, payload: Callable[[int], bytes], code: int, defence: Defence, *more: Expectation) -> Row:
    return Row(
        name=name,
        fault=sends_once(payload),
        count=ANSWERED_FIRST + UNANSWERED,
        options={"delivery_response_timeout": "1s"},
        expect=(in_doubt("protocol error"), goodbye(code), connections(2, 2), *more),
        defence=defence,
    )


def _whole(payload: bytes) -> Callable[[int], bytes]:
    return lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, payload)


BOMBS = (
    _broken(
        "header bomb: 16,000 fields of one octet each",
        _whole(UNKNOWN_STATUS + b"\x8f" * 16_000),
        ENHANCE_YOUR_CALM,
        Defence(
            "mcmt/wire/header_block.py: _decode() takes a list of 16 KB",
            {"mcmt.wire.header_block.MAX_HEADER_LIST": 10**9},
        ),
    ),
    _broken(
        "header bomb: one large field, repeated from the dynamic table",
        _whole(UNKNOWN_STATUS + b"\x40\x01a\x7f\x81\x1e" + b"b" * 4_000 + b"\xbe" * 10_000),
        COMPRESSION_ERROR,
        Defence(
            "mcmt/wire/header_block.py: _decode() has no dynamic table",
            {"mcmt.wire.header_block._decode": lambda data: _with_a_table(data)},
        ),
    ),
    _broken(
        "header block of 17 KB",
        lambda stream: (
            frame(HEADERS, END_STREAM, stream, OK + bytes(16_000))
            + frame(CONTINUATION, END_HEADERS, stream, bytes(1_000))
        ),
        ENHANCE_YOUR_CALM,
        Defence(
            "mcmt/wire/inbound.py: _continuation() takes a block of 16 KB", {"mcmt.wire.inbound.MAX_HEADER_LIST": 10**9}
        ),
    ),
)


def _with_a_table(data: bytes) -> list[tuple[bytes, bytes]]:
    from hpack import Decoder

    return [(bytes(name), bytes(value)) for name, value in Decoder(10**9).decode(data, raw=True)]


# -- frames that are wrong --------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[int], bytes], int]] = {
    "DATA on stream 0": (lambda stream: frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA with more padding than content": (lambda stream: frame(DATA, PADDED, stream, b"\x09x"), PROTOCOL_ERROR),
    "HEADERS on an even stream": (lambda stream: frame(HEADERS, END_HEADERS, 2, OK), PROTOCOL_ERROR),
    "HEADERS on a stream never opened": (lambda stream: frame(HEADERS, END_HEADERS, 99_999, OK), PROTOCOL_ERROR),
    "HEADERS that are no HPACK": (lambda stream: frame(HEADERS, END_HEADERS, stream, b"\xff" * 40), COMPRESSION_ERROR),
    "PRIORITY of 4 octets": (lambda stream: frame(PRIORITY, 0, stream, bytes(4)), FRAME_SIZE_ERROR),
    "RST_STREAM of 3 octets": (lambda stream: frame(RST_STREAM, 0, stream, bytes(3)), FRAME_SIZE_ERROR),
    "SETTINGS of 5 octets": (lambda stream: frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "SETTINGS with a frame size of 1": (lambda stream: settings(frame=1), PROTOCOL_ERROR),
    "SETTINGS with a window of 2^31": (lambda stream: settings(window=2**31), FLOW_CONTROL_ERROR),
    "PUSH_PROMISE": (lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, u32(2) + OK), PROTOCOL_ERROR),
    "PING of 7 octets": (lambda stream: frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "GOAWAY of 7 octets": (lambda stream: frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (lambda stream: frame(WINDOW_UPDATE, 0, 0, u32(0)), PROTOCOL_ERROR),
    "WINDOW_UPDATE past 2^31-1": (lambda stream: frame(WINDOW_UPDATE, 0, 0, u32(MAX_31)), FLOW_CONTROL_ERROR),
    "CONTINUATION of nothing": (lambda stream: frame(CONTINUATION, END_HEADERS, stream, OK), PROTOCOL_ERROR),
    "PING inside a header block": (lambda stream: _opened(stream) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "a frame of 16,385 octets": (lambda stream: frame(DATA, 0, stream, bytes(16_385)), FRAME_SIZE_ERROR),
    "HTTP/1.1": (lambda stream: b"HTTP/1.1 400 Bad Request\r\n\r\n", FRAME_SIZE_ERROR),
}
"""Each ends the connection, with the code that RFC 9113 names for it."""


async def says_what_is_wrong(peer: Peer) -> None:
    """Each connection answers one request, then says the next of WRONG."""
    if peer.number >= len(WRONG):
        await peer.serve()
        return
    peer.greet()
    one, another = (await peer.several(2))[:2]
    make, _ = list(WRONG.values())[peer.number]
    peer.accept(one, make(another.stream))
    await peer.end()


def _unchecked(kind: int, stream: int, length: int) -> None:
    """Nothing is wrong."""


MALFORMED = (
    Row(
        name="malformed frames, one of each kind",
        fault=says_what_is_wrong,
        count=len(WRONG) + 2,
        settings={"retry_interval": 0.01, "max_retry_interval": 0.01},
        expect=(in_doubt("protocol error"), goodbye(*(code for _, code in WRONG.values()))),
        without=5.0,
        defence=Defence(
            "mcmt/wire/frames.py: check() and the readers",
            {"mcmt.wire.frames.check": _unchecked, "mcmt.wire.frames.unpad": lambda flags, data: data},
        ),
    ),
    _flood(
        "a frame of 16 MB",
        lambda stream: bytes(65_536),
        Defence(
            "mcmt/wire/http2.py: _cut() refuses a frame by its header, before its octets are kept",
            {"mcmt.wire.http2.LIMIT": 0xFFFFFFFF},
        ),
        lambda stream: b"\xff\xff\xff\x00\x00" + u32(stream),
        code=FRAME_SIZE_ERROR,
    ),
)

ROWS = (*FLOODS, *BOMBS, *MALFORMED)
