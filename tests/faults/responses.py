"""Rows of what an answer may be made of: interim responses, trailers (RFC 9113 section 8.1)."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    OK,
    Peer,
    Request,
    Script,
    block,
    frame,
)
from tests.faults.row import (
    Defence,
    Row,
    Wrapped,
    connections,
    delivered_once,
    goodbye,
    in_doubt,
)


async def interim_and_trailers(peer: Peer) -> None:
    """100, 103 with a field, 200 with a body, trailers."""

    def answer(request: Request) -> None:
        stream = request.stream
        peer.window -= 2
        peer.close_stream(
            request,
            frame(HEADERS, END_HEADERS, stream, block((":status", "100"))) * 3,
            frame(HEADERS, END_HEADERS, stream, block((":status", "103"), ("link", "</a>; rel=preload"))),
            frame(HEADERS, END_HEADERS, stream, block((":status", "200"), ("apns-id", request.apns_id))),
            frame(DATA, 0, stream, b"{}"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, block(("x-checksum", "1"))),
            answered=True,
        )

    peer.on_request = answer
    peer.greet()
    await peer.end()


def answers_once_with(*frames: Callable[[int], bytes]) -> Script:
    """The first ten requests of the first connection get these; every other one is answered."""
    met = 0

    async def script(peer: Peer) -> None:
        nonlocal met

        def answer(request: Request) -> None:
            nonlocal met
            met += 1
            if met > 10:
                peer.accept(request)
            else:
                peer.close_stream(request, *(make(request.stream) for make in frames), answered=False)

        peer.on_request = answer
        peer.greet()
        await peer.end()

    return script


def _begin(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, OK)


ROWS = (
    Row(
        name="1xx before and trailers behind every answer",
        fault=interim_and_trailers,
        expect=(delivered_once, connections(1), goodbye()),
        defence=Defence(
            "mcmt/wire/inbound.py: _header_block() passes interim responses over",
            {
                "mcmt.wire.header_block.StatusReader.read": Wrapped(
                    lambda read: lambda self, data: max(200, read(self, data))
                )
            },
        ),
    ),
    *(
        Row(
            name=name,
            fault=answers_once_with(_begin, trailers),
            expect=(in_doubt("malformed trailers"), connections(1), goodbye()),
            defence=Defence(
                "mcmt/wire/inbound.py: _header_block() refuses them, for their stream alone",
                {"mcmt.wire.inbound.decode_headers": lambda data: (), "mcmt.wire.frames.END_STREAM": 0},
            )
            if name.startswith("trailers with")
            else Defence(
                "mcmt/wire/inbound.py: _header_block() wants trailers to end their stream",
                {"mcmt.wire.inbound.END_STREAM": END_HEADERS},
            ),
        )
        for name, trailers in (
            (
                "trailers with a pseudo-header",
                lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, block((":status", "200"))),
            ),
            (
                "trailers that do not end the stream",
                lambda stream: frame(HEADERS, END_HEADERS, stream, block(("x-checksum", "1"))),
            ),
        )
    ),
    Row(
        name="101, which HTTP/2 has not",
        fault=answers_once_with(lambda stream: frame(HEADERS, END_HEADERS, stream, block((":status", "101")))),
        expect=(in_doubt("malformed response"), connections(1), goodbye()),
        defence=Defence(
            "mcmt/wire/inbound.py: _header_block() refuses it",
            {
                "mcmt.wire.header_block.StatusReader.read": Wrapped(
                    lambda read: lambda self, data: 100 if read(self, data) == 101 else read(self, data)
                )
            },
        ),
    ),
)
