"""Rows of HTTP/2's own means (RFC 9113): silence, GOAWAY, RST_STREAM, SETTINGS, windows, 1xx, trailers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.faults.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INTERNAL_ERROR,
    MAX_31,
    NO_ERROR,
    OK,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
    Peer,
    Request,
    Script,
    block,
    frame,
    goaway,
    u32,
)
from tests.faults.network import NO_BACK_OFF, NO_DEADLINE
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
    failed_all,
    for_seconds,
    goodbye,
    in_doubt,
    kept,
    not_told,
    requests,
    said,
    told,
)
from tests.faults.stage import Stage

LATE = 700.0
"""Seconds: the longest that users have seen an answer of Apple's take."""
NO_HOLD = Defence(
    "mcmt/engine/route_health.py: refused() holds the route from the second refusal on",
    {"mcmt.engine.route_health.RouteHealth.refused": lambda self, reason, wait=0.0: None},
)


def first(times: int, script: Script) -> Script:
    """*script* on the first connections, and 200 for everything on those after them."""

    async def follow(peer: Peer) -> None:
        await (script(peer) if peer.number < times else peer.serve())

    return follow


# -- answers that do not come, or late --------------------------------------------------------------------------------


async def never_answers_some(peer: Peer) -> None:
    """Every other request is not answered, until it comes a second time."""
    seen = 0

    def take(request: Request) -> None:
        nonlocal seen
        seen += 1
        if seen > 200 or seen % 2:
            peer.accept(request)

    peer.on_request = take
    peer.greet()
    await peer.end()


async def never_answers(peer: Peer) -> None:
    peer.greet()
    await peer.end()


@said("their streams are cancelled")
def streams_were_cancelled(seen: Seen) -> None:
    resets = seen.stage.gateway.peers[0].resets
    expect(len(resets) == len(seen.ids) // 2, f"{len(resets)} streams reset")
    expect(set(resets.values()) == {CANCEL}, f"codes {set(resets.values())}")


LATE_ANSWERS: list[Request] = []


async def keeps_some_for_later(peer: Peer) -> None:
    """Every other request waits for ``answer_late``; a second one of the same id is answered."""
    seen = 0

    def take(request: Request) -> None:
        nonlocal seen
        seen += 1
        if seen > 200 or seen % 2:
            peer.accept(request)
        else:
            LATE_ANSWERS.append(request)

    peer.on_request = take
    peer.greet()
    await peer.end()


async def a_long_time_passes(stage: Stage) -> None:
    """All requests are out, 700 s go by, then the gateway answers what it kept."""
    await stage.until(lambda: len(stage.gateway.received) == stage.row.count)
    await stage.clock.leap(LATE)
    peer = stage.gateway.peers[0]
    for request in LATE_ANSWERS or list(peer.open.values()):
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, request.stream, OK))
        stage.gateway.answered[request.apns_id] += 1
    await all_final(stage)
    await stage.sleep(0.1)


async def past_the_pings(stage: Stage) -> None:
    stage.gateway.answers_pings = False
    await stage.until(lambda: len(stage.gateway.received) == stage.row.count)
    await stage.clock.leap(90)
    await stage.until(lambda: len(stage.gateway.peers) == 2)
    await stage.clock.leap(60)
    await all_final(stage)


def _still(take: Any) -> Any:
    def received(self: Any, data: bytes) -> None:
        heard, pinged = self._last_received, self._pinged_at
        take(self, data)
        self._last_received, self._pinged_at = heard, pinged

    return received


def _never_silent(drop: Any) -> Any:
    def dropped(self: Any, now: float) -> None:
        self._last_received = now + 1.0
        drop(self, now)

    return dropped


SILENCE = (
    Row(
        name="some requests are never answered",
        fault=never_answers_some,
        expect=(in_doubt("no answer within 500 ms"), streams_were_cancelled, connections(1), goodbye()),
        defence=NO_DEADLINE,
    ),
    Row(
        name="nothing is ever answered on a connection",
        fault=first(1, never_answers),
        expect=(in_doubt("no answer within 500 ms"), connections(2, 2)),
        defence=Defence(
            "channels/apn/connection.py: _drop_overdue() leaves a connection that has been silent",
            {"apn.connection.ApnsConnection._drop_overdue": Wrapped(_never_silent)},
        ),
    ),
    Row(
        name="answers after 700 s, long given up",
        fault=keeps_some_for_later,
        until=a_long_time_passes,
        options={"delivery_response_timeout": "30s"},
        expect=(in_doubt("no answer within 30000 ms"), connections(1), goodbye()),
        defence=NO_DEADLINE,
    ),
    Row(
        name="answers after 700 s, waited for",
        fault=never_answers,
        until=a_long_time_passes,
        options={"delivery_response_timeout": "800s"},
        expect=(delivered_once, connections(1), goodbye()),
        defence=Defence(
            "channels/apn/connection.py: data_received() takes the answer to a PING for a sign of life",
            {"apn.connection.ApnsConnection.data_received": Wrapped(_still)},
        ),
    ),
    Row(
        name="half-open, and answers may take 800 s",
        fault=first(1, never_answers),
        until=past_the_pings,
        options={"delivery_response_timeout": "800s"},
        expect=(in_doubt("no sign of life"), connections(2, 2)),
        defence=Defence(
            "channels/apn/connection.py: _watch() asks a silent peer for a sign of life (PING)",
            {"apn.connection.PING_AFTER": 1e9},
        ),
    ),
)

# -- GOAWAY -----------------------------------------------------------------------------------------------------------


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


GOAWAYS = (
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


# -- RST_STREAM, SETTINGS, windows ------------------------------------------------------------------------------------


async def refuses_everything(peer: Peer) -> None:
    peer.on_request = lambda request: peer.reset(request, REFUSED_STREAM)
    peer.greet()
    await peer.end()


def resets_behind_the_answer(code: int) -> Script:
    async def script(peer: Peer) -> None:
        peer.on_request = lambda request: peer.accept(request, frame(RST_STREAM, 0, request.stream, u32(code)))
        peer.greet()
        await peer.end()

    return script


def _resets_first(read: Any) -> Any:
    """As a client does that looks at the end of a stream before what came on it."""
    from mcmt.wire.events import StreamReset

    def received(self: Any, data: bytes) -> Any:
        open_before = set(self._open)
        events = read(self, data)
        at, resets = 0, []
        while at + 9 <= len(data):
            size, kind = int.from_bytes(data[at : at + 3], "big"), data[at + 3]
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            if kind == RST_STREAM and stream in open_before:
                resets.append(StreamReset(stream, int.from_bytes(data[at + 9 : at + 13], "big")))
            at += 9 + size
        return [*resets, *events]

    return received


async def limits_up_and_down(peer: Peer) -> None:
    """SETTINGS 1000 -> 1 -> 1000 -> 1 ..., every 250 answers."""
    peer.greet(streams=1000)
    done = 0
    while not peer.gone:
        await peer.until(lambda: bool(peer.open))
        for request in list(peer.open.values())[:25]:
            peer.accept(request)
            done += 1
            if done % 250 == 0:
                peer.change_limit(1 if done % 500 else 1000)
        await asyncio.sleep(0.001)


@said("no stream above the limit that was acknowledged")
def no_violation(seen: Seen) -> None:
    violations = seen.stage.gateway.violations
    expect(violations == 0, f"{violations} streams above the limit that was acknowledged")


async def windows_of_zero(peer: Peer) -> None:
    """Nothing but WINDOW_UPDATE opens them: the connection's first, then each stream's, by halves."""
    peer.on_request = peer.accept
    peer.greet(window=0, connection=False)
    await peer.until(lambda: len(peer.begun) >= 200)
    peer.send(frame(WINDOW_UPDATE, 0, 0, u32(1_000_000)))
    for stream in list(peer.begun):
        peer.send(frame(WINDOW_UPDATE, 0, stream, u32(40)))
    await asyncio.sleep(0.05)
    for stream in list(peer.begun):
        peer.send(frame(WINDOW_UPDATE, 0, stream, u32(1_000)))
    await peer.end()


async def windows_never_open(peer: Peer) -> None:
    peer.greet(window=0)
    await peer.end()


@said("back-off")
def few_streams(seen: Seen) -> None:
    begun = sum(peer.count for peer in seen.stage.gateway.peers)
    expect(begun <= 200 * (2 + seen.elapsed / 0.5), f"{begun} streams were opened for nothing")


async def error_bodies(peer: Peer) -> None:
    """410 with 400 octets, each only when the client's window has room for it."""
    body = b'{"reason":"Unregistered","timestamp":1700000000000,"pad":"%s"}' % (b"x" * 340)
    answered = 0
    peer.greet()
    while not peer.gone:
        await peer.until(lambda: bool(peer.open) and peer.window >= len(body))
        for request in list(peer.open.values()):
            if peer.window < len(body):
                break
            peer.window -= len(body)
            answered += 1
            peer.close_stream(
                request,
                frame(HEADERS, END_HEADERS, request.stream, block((":status", "410"))),
                frame(DATA, END_STREAM, request.stream, body),
                answered=False,
            )
        await asyncio.sleep(0)


def _never_given_back(self: Any) -> bytes:
    data = b"".join(self._out)
    self._out.clear()
    self._replies = 0
    return data


def _error_bodies(count: int) -> Row:
    return Row(
        name=f"{count:,} error bodies on one connection",
        fault=error_bodies,
        count=count,
        settings={"max_outbound_connections": 1},
        options={"delivery_response_timeout": "60s"},
        expect=(failed_all("410"), connections(1), goodbye()),
        within=count / 250 + 10,
        without=count / 500 + 2,
        growth=24 * 1024**2,
        defence=Defence(
            "mcmt/wire/outbound.py: data_to_send() gives the receive window back",
            {"mcmt.wire.http2.ClientConnection.data_to_send": _never_given_back},
        ),
        long=count > 10_000,
    )


def _unlimited(apply: Any) -> Any:
    def applied(self: Any, peer: Any, table: int | None) -> None:
        apply(self, peer, table)
        self._slots = 1000

    return applied


STREAMS = (
    Row(
        name="REFUSED_STREAM for ever",
        fault=refuses_everything,
        until=for_seconds(2.5),
        expect=(kept("down", "code 7"), connections(1), requests(200 * 5)),
        defence=NO_HOLD,
    ),
    *(
        Row(
            name=f"RST_STREAM({name}) behind a whole answer",
            fault=resets_behind_the_answer(code),
            count=40,
            expect=(delivered_once, connections(1), goodbye()),
            defence=Defence(
                "mcmt/wire/inbound.py: _finish() ends a stream with its answer; a reset of an ended stream is nothing",
                {"mcmt.wire.http2.ClientConnection.receive": Wrapped(_resets_first)},
            ),
        )
        for name, code in (
            ("NO_ERROR", NO_ERROR),
            ("REFUSED_STREAM", REFUSED_STREAM),
            ("INTERNAL_ERROR", INTERNAL_ERROR),
            ("CANCEL", CANCEL),
        )
    ),
    Row(
        name="SETTINGS 1000 -> 1 -> 1000 under load",
        fault=limits_up_and_down,
        count=3_000,
        options={"delivery_response_timeout": "5s"},
        expect=(delivered_once, no_violation, goodbye()),
        defence=Defence(
            "mcmt/wire/outbound.py: _apply() puts the peer's limit in force as soon as it comes",
            {"mcmt.wire.outbound.Outbound._apply": Wrapped(_unlimited)},
        ),
    ),
    Row(
        name="windows of zero, opened by WINDOW_UPDATE alone",
        fault=windows_of_zero,
        options={"delivery_response_timeout": "2s"},
        expect=(delivered_once, connections(1), goodbye()),
        defence=Defence(
            "mcmt/wire/http2.py: receive() sends what waits when a window moves",
            {"mcmt.wire.outbound.Outbound._send_waiting": lambda self: None},
        ),
    ),
    Row(
        name="windows of zero, for ever",
        fault=windows_never_open,
        until=for_seconds(3.0),
        expect=(kept("down", "no answer within"), few_streams),
        defence=NO_HOLD,
    ),
    _error_bodies(3_000),
    _error_bodies(100_000),
)


# -- interim responses and trailers -----------------------------------------------------------------------------------


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


INTERIM = (
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

ROWS = (*SILENCE, *GOAWAYS, *STREAMS, *INTERIM)
