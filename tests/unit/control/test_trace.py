"""``trace`` over the control socket: it begins, is fed, and ends with its client."""

from __future__ import annotations

import asyncio
import json

import pytest

from mcmt.control import tracing
from mcmt.control.station import LocalStation
from mcmt.errors import ControlError
from mcmt.wire.trace import LINES, Told, Watch
from tests.unit.control.stand_ins import DOMAIN, Peer, Running


async def watching(control: Running) -> Peer:
    client = await control.client()
    assert (await client.answer())["type"] == "hello"
    await client.ask({"do": "trace", "domain": DOMAIN})
    assert await client.answer() == {"type": "begun"}
    assert DOMAIN in control.tracing.watched, "nothing is missed from here on"
    return client


async def test_what_is_told_comes_in_order_and_what_was_left_out_is_counted(control: Running) -> None:
    client = await watching(control)
    trace = control.tracing.trace(DOMAIN, "192.0.2.1", "http2")
    assert trace is not None
    for number in range(LINES + 7):
        trace.tell("sent", "PING", str(number))
    lines = [(await client.answer())["item"] for _ in range(LINES + 1)]
    assert [line["text"] for line in lines[:-1]] == [str(number) for number in range(LINES)]
    assert lines[-1]["left_out"] == 7


async def test_the_engine_stops_when_the_client_hangs_up(control: Running) -> None:
    clients = [await watching(control) for _ in range(2)]
    await clients[0].close()
    await until(lambda: len(control.tracing.watched[DOMAIN]) == 1)
    await clients[1].close()
    await until(lambda: not control.tracing.watched)


async def test_the_engine_stops_when_it_is_stopped_itself(control: Running) -> None:
    client = await watching(control)
    await control.server.close()
    assert (await client.answers())[-1]["code"] == "stopping"
    assert not control.tracing.watched


async def test_nothing_else_can_be_asked_on_that_connection(control: Running) -> None:
    client = await watching(control)
    await client.ask({"do": "status"})
    assert (await client.answers())[-1]["code"] == "bad_request"
    assert not control.tracing.watched


async def test_a_process_that_is_away_is_told_once_and_asked_again(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "PAUSE", 0.0)
    fetch, away = LocalStation.fetch_trace, asyncio.Event()

    async def maybe(station: LocalStation, watch: Watch) -> Told:
        if away.is_set():
            raise ControlError("the worker of shard 0 did not answer")
        return await fetch(station, watch)

    monkeypatch.setattr(LocalStation, "fetch_trace", maybe)
    client = await watching(control)
    away.set()
    first = (await client.answer())["item"]
    assert (first["what"], first["text"]) == ("away", "the worker of shard 0 did not answer")
    away.clear()
    assert (await client.answer())["item"]["what"] == "back"


async def test_one_that_was_forgotten_is_told_that_lines_are_missing(control: Running) -> None:
    client = await watching(control)
    (watching_,) = control.tracing.watched[DOMAIN]
    control.tracing.end(watching_.watch.number)
    assert (await client.answer())["item"]["what"] == "gap"


async def test_what_a_peer_said_moves_no_cursor(control: Running) -> None:
    client = await watching(control)
    trace = control.tracing.trace(DOMAIN)
    assert trace is not None
    trace.tell("received", "reply", "250 \x1b[2J\u009b\u2028")
    line = await client.reader.readline()
    assert line.isascii()
    assert json.loads(line)["item"]["text"] == "250 \x1b[2J\u009b\u2028"


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
