"""Rows below HTTP/2: what a network, a name server or a gateway's host does to TCP and TLS. The gateway is nginx."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tests.faults.proxy import Fault, Phase
from tests.faults.row import (
    Defence,
    Row,
    Wrapped,
    backs_off,
    connections,
    delivered_once,
    for_seconds,
    in_doubt,
    kept,
    told,
)
from tests.faults.stage import Stage

NO_BACK_OFF = Defence(
    "mcmt/engine/route_health.py: failed() puts the next connection off",
    {"mcmt.engine.route_health.RouteHealth.connect_delay": lambda self: 0.0},
)
NO_CONNECT_TIMEOUT = Defence(
    "mcmt/engine/links.py: connect_timeout ends a connection that does not come to be",
    {"settings.connect_timeout": 60.0},
)
NO_DEADLINE = Defence(
    "channels/apn/connection.py: _drop_overdue() ends a stream at its deadline",
    {"apn.connection.ApnsConnection._drop_overdue": lambda self, now: None},
)
NO_OUTCOME_AT_THE_END = Defence(
    "channels/apn/connection.py: connection_lost() reports what was not answered, ambiguous",
    {"apn.connection.ApnsConnection._give_up": lambda self, ids, text: self._streams.clear()},
)

BEFORE_REQUESTS = (Phase.CONNECT, Phase.HANDSHAKE, Phase.SETTINGS)
WITH_REQUESTS = (Phase.REQUEST, Phase.ANSWER)
WHERE = {
    Phase.CONNECT: "once TCP is up",
    Phase.HANDSHAKE: "in the TLS handshake",
    Phase.SETTINGS: "before SETTINGS",
    Phase.REQUEST: "in the middle of requests",
    Phase.ANSWER: "in the middle of answers",
}


def _ends() -> list[Row]:
    rows = []
    for act, name in (("reset", "reset"), ("cut", "closed")):
        rows += [
            Row(
                name=f"{name} {WHERE[phase]}",
                fault=Fault(act, phase),
                expect=(delivered_once, backs_off, told("down", ""), told("up", ""), connections(2, 2)),
                defence=NO_BACK_OFF,
            )
            for phase in BEFORE_REQUESTS
        ]
        rows += [
            Row(
                name=f"{name} {WHERE[phase]}",
                fault=Fault(act, phase),
                expect=(in_doubt("before the answer"), connections(3, 2)),
                defence=NO_OUTCOME_AT_THE_END,
            )
            for phase in WITH_REQUESTS
        ]
    return rows


def _holes() -> list[Row]:
    rows = [
        Row(
            name=f"half-open {WHERE[phase]}",
            fault=Fault("hole", phase),
            expect=(delivered_once, backs_off, told("down", "connect_timeout"), connections(2, 2)),
            defence=NO_CONNECT_TIMEOUT,
        )
        for phase in BEFORE_REQUESTS
    ]
    rows += [
        Row(
            name=f"half-open {WHERE[phase]}",
            fault=Fault("hole", phase),
            expect=(in_doubt("no answer within 500 ms"), connections(3, 2)),
            defence=NO_DEADLINE,
        )
        for phase in WITH_REQUESTS
    ]
    return rows


def _gone(stage: Stage) -> None:
    """The name is unknown twice, then it is the gateway's."""
    stage.host = "gateway.example.com"
    stage.options["tls_verify"] = "ca"
    loop = asyncio.get_running_loop()
    ask_the_system = loop.getaddrinfo
    asked = 0

    async def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal asked
        if host != stage.host:
            return await ask_the_system(host, *arguments, **options)
        asked += 1
        if asked <= 2:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await ask_the_system("127.0.0.1", *arguments, **options)

    loop.getaddrinfo = look_up  # type: ignore[method-assign]


def _remembered(look_up: Any) -> Any:
    """A look-up that is made once, as programs do that keep their first answer."""
    answers: list[Any] = []

    async def once(host: str, port: int) -> Any:
        if host != "gateway.example.com":
            return await look_up(host, port)
        if not answers:
            try:
                answers.append(await look_up(host, port))
            except Exception as error:
                answers.append(error)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    return once


ROWS = (
    Row(
        name="gateway down",
        fault=None,
        until=for_seconds(2.3),
        expect=(kept("down", "Connect"), backs_off),
        defence=NO_BACK_OFF,
    ),
    *_ends(),
    *_holes(),
    Row(
        name="1 byte a second from the handshake on",
        fault=Fault("slow", Phase.HANDSHAKE, rate=1),
        expect=(delivered_once, backs_off, told("down", "connect_timeout"), connections(2, 2)),
        defence=NO_CONNECT_TIMEOUT,
    ),
    Row(
        name="1 byte a second from the answers on",
        fault=Fault("slow", Phase.ANSWER, rate=1),
        expect=(in_doubt("no answer within 500 ms"), connections(3, 2)),
        defence=NO_DEADLINE,
    ),
    Row(
        name="requests are read at 2 KB a second",
        fault=Fault("slow", Phase.REQUEST, rate=2_000),
        count=400,
        content=b'{"aps":{"alert":"%s"}}' % (b"x" * 4_000),
        expect=(in_doubt("no answer within 500 ms"), connections(4, 2)),
        defence=NO_DEADLINE,
    ),
    Row(
        name="every answer is late, and in time",
        fault=Fault("late", Phase.CONNECT, times=9, delay=0.15),
        settings={"connect_timeout": 5.0},
        options={"delivery_response_timeout": "3s"},
        expect=(delivered_once, connections(1)),
        defence=Defence(
            "channels/apn/connection.py: a stream's deadline is delivery_response_timeout, from its own request",
            {"options.delivery_response_timeout": "20ms"},
        ),
    ),
    Row(
        name="DNS gone for a while",
        fault=Fault("cut", Phase.CONNECT, times=0),
        prepare=_gone,
        expect=(delivered_once, told("down", "cannot be looked up"), told("up", "")),
        defence=Defence(
            "mcmt/channel/lookup.py: a route's name is looked up afresh for each connection",
            {"apn.transport.look_up": Wrapped(_remembered)},
        ),
    ),
)
