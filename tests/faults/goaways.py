"""Rows of GOAWAY (RFC 9113 section 6.8), with every last stream, with debug data, before SETTINGS."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.faults.frames import (
    MAX_31,
    NO_ERROR,
    Peer,
    Script,
    goaway,
)
from tests.faults.network import NO_BACK_OFF
from tests.faults.row import (
    Defence,
    Row,
    Seen,
    Wrapped,
    all_final,
    backs_off,
    connections,
    delivered_once,
    expect,
    for_seconds,
    in_doubt,
    kept,
    not_told,
    said,
    told,
)
from tests.faults.silence import first
from tests.faults.stage import Stage


async def takes_none(peer: Peer) -> None:
    peer.greet()
    await peer.several(1)
    peer.send(goaway(0, NO_ERROR, b'{"reason":"Shutdown"}'))


async def takes_half(peer: Peer) -> None:
    """50 of the first 100 are answered, the others are past GOAWAY's last stream."""
    peer.greet(streams=100)
    some = (await peer.several(100))[:50]
    for request in some:
        peer.accept(request, goaway(some[-1].stream) if request is some[24] else b"")
    await asyncio.sleep(0.05)


async def goes_in_good_order(peer: Peer) -> None:
    """RFC 9113 6.8: a first GOAWAY with the highest id, all answers, a second with the last stream."""
    peer.greet(streams=50)
    some = await peer.several(50)
    peer.send(goaway(MAX_31))
    await asyncio.sleep(0.05)  # whatever is on its way to us is not looked at any more
    for request in some:
        peer.accept(request)
    peer.send(goaway(some[-1].stream))
    await asyncio.sleep(0.05)


async def promises_and_goes(peer: Peer) -> None:
    peer.greet()
    await peer.several(200)
    peer.send(goaway(MAX_31))


async def promises_and_is_silent(peer: Peer) -> None:
    peer.greet()
    await peer.several(200)
    peer.send(goaway(MAX_31))
    await peer.end()


async def goaway_first(peer: Peer) -> None:
    peer.send(goaway(0, 11, b'{"reason":"Shutdown"}'))


async def goaway_behind_settings(peer: Peer) -> None:
    peer.greet()
    peer.send(goaway(0, NO_ERROR, b""))


def goes_saying(debug: bytes) -> Script:
    async def script(peer: Peer) -> None:
        peer.greet()
        await peer.several(1)
        peer.send(goaway(0, 11, debug))

    return script


@said("what is logged of it is short")
def news_are_short(seen: Seen) -> None:
    longest = max(len(event.text) for event in seen.news)
    expect(longest < 400, f"{longest} characters in the main log")


def _answered_all(read: Any) -> Any:
    return lambda payload: (MAX_31, *read(payload)[1:])


ROWS = (
    Row(
        name="GOAWAY storm, last stream 0",
        fault=first(2, takes_none),
        expect=(delivered_once, backs_off, told("down", "GOAWAY code 0 Shutdown"), connections(3, 3)),
        defence=NO_BACK_OFF,
    ),
    Row(
        name="GOAWAY storm, last stream in the middle",
        fault=first(3, takes_half),
        expect=(delivered_once, connections(4, 4), not_told("suspended")),
        defence=Defence(
            "mcmt/wire/http2.py: _goaway() gives up what is past the last stream, refused",
            {"mcmt.wire.frames.read_goaway": Wrapped(_answered_all)},
        ),
    ),
    Row(
        name="GOAWAY storm, last stream 2^31-1, all is answered",
        fault=first(3, goes_in_good_order),
        expect=(delivered_once, connections(4, 4), not_told("down")),
        defence=Defence(
            "channels/apn/connection.py: _leave() and mcmt/wire/outbound.py: _take_no_more() take nothing more",
            {
                "apn.connection.ApnsConnection._leave": lambda self, reason: None,
                "mcmt.wire.outbound.Outbound._take_no_more": lambda self: None,
            },
        ),
    ),
    Row(
        name="GOAWAY, last stream 2^31-1, then closed",
        fault=first(1, promises_and_goes),
        expect=(in_doubt("before the answer"), connections(2, 2)),
        defence=Defence(
            "channels/apn/connection.py: what was written is ambiguous, not refused",
            {"apn.connection.unanswered": Wrapped(lambda make: lambda *given, refused: make(*given, refused=True))},
        ),
    ),
    Row(
        name="GOAWAY, last stream 2^31-1, then silence",
        fault=first(1, promises_and_is_silent),
        options={"delivery_response_timeout": "3s"},
        until=lambda stage: more_come_meanwhile(stage),
        expect=(in_doubt("no answer within 3000 ms"), connections(2, 2)),
        defence=Defence(
            "mcmt/engine/link.py: leaving() lets another connection be opened before this one ends",
            {"mcmt.engine.link.Link.leaving": lambda self: None},
        ),
        without=6.0,
    ),
    Row(
        name="GOAWAY before SETTINGS",
        fault=first(2, goaway_first),
        expect=(delivered_once, backs_off, told("down", "Shutdown"), connections(3, 3)),
        defence=NO_BACK_OFF,
    ),
    Row(
        name="GOAWAY right behind SETTINGS",
        fault=first(2, goaway_behind_settings),
        expect=(delivered_once, backs_off, connections(3, 3)),
        defence=NO_BACK_OFF,
    ),
    Row(
        name="GOAWAY with the reason BadCertificate",
        fault=goes_saying(b'{"reason":"BadCertificate"}'),
        until=for_seconds(1.5),
        settings={"max_retry_interval": 1.0},
        expect=(kept("suspended", "BadCertificate"), connections(3)),
        defence=Defence("channels/apn/connection.py: _going_away() reads the debug data", {"apn.connection.RULES": {}}),
    ),
    Row(
        name="GOAWAY with 16 KB of debug data",
        fault=first(1, goes_saying(b'{"reason":"%s\\u0000\\r\\n@"}' % (b"x" * 16_000))),
        expect=(delivered_once, news_are_short, connections(2, 2)),
        defence=Defence(
            "channels/apn/answers.py: reason_of() takes 200 characters",
            {"apn.connection.reason_of": lambda body: (body.decode("latin-1"), 0.0)},
        ),
    ),
)


async def more_come_meanwhile(stage: Stage) -> None:
    """What is accepted while the old connection waits for answers goes out by another, at once."""
    await stage.until(lambda: len(stage.gateway.received) == stage.row.count)
    await stage.sleep(0.1)
    began = stage.clock.monotonic()
    await stage.push_more(5)
    await stage.until(lambda: sum(stage.delivered.values()) >= 5)
    expect(stage.clock.monotonic() - began < 2.0, "what came later waited for the old connection")
    await all_final(stage)
