"""Rows of answers that do not come, or come late."""

from __future__ import annotations

from typing import Any

from tests.faults.frames import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    OK,
    Peer,
    Request,
    Script,
    frame,
)
from tests.faults.network import NO_DEADLINE
from tests.faults.row import (
    Defence,
    Row,
    Seen,
    Wrapped,
    all_final,
    connections,
    delivered_once,
    expect,
    goodbye,
    in_doubt,
    said,
)
from tests.faults.stage import Stage

LATE = 700.0
"""Seconds: the longest that users have seen an answer of Apple's take."""


def first(times: int, script: Script) -> Script:
    """*script* on the first connections, and 200 for everything on those after them."""

    async def follow(peer: Peer) -> None:
        await (script(peer) if peer.number < times else peer.serve())

    return follow


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


ROWS = (
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
