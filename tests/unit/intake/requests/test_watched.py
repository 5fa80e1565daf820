"""What those who watch a domain are told of requests at the doors for older push servers' clients."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode
from xmlrpc.client import Fault, dumps

import pytest

from mcmt.clock import SystemClock
from mcmt.wire.trace import Line
from tests.support.watching import Watcher
from tests.unit.intake.requests.conftest import APP, SECRET, TOPIC, Server, Start

DOMAIN = "apn.example.com"
TOKEN = "0123456789abcdef" * 4
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
FORM = "application/x-www-form-urlencoded"


def watch(server: Server, domain: str = DOMAIN, *, bodies: bool = False) -> Watcher:
    watcher = Watcher(domain, SystemClock(), bodies=bodies)
    server.doors.smtp.reception.tracing.watched.update(watcher.tracing.watched)
    return watcher


async def told(watcher: Watcher, count: int) -> list[Line]:
    """So many lines, when they are there."""
    lines: list[Line] = []
    async with asyncio.timeout(20):
        while len(lines) < count:
            lines += watcher.lines()
            await asyncio.sleep(0.005)  # a list has no event to wait for
    assert len(lines) == count
    return lines


def said(line: Line) -> str:
    return " ".join((line.text, *(f"{name}: {value}" for name, value in line.fields), line.body))


async def test_a_push_to_propeller_is_shown_with_its_answer(start: Start) -> None:
    server = await start()
    watcher, other = watch(server, bodies=True), watch(server, "other.example.com")
    push = {"auth_token": SECRET, "topic": TOPIC, "token": TOKEN, "title": f"key {SECRET}", "body": "text"}
    body = urlencode(push).encode()
    assert (await server.post(server.propeller, body, FORM, "/post"))[0].startswith("HTTP/1.1 200")
    asked, answered, closed = await told(watcher, 3)
    assert (asked.protocol, asked.way, asked.what, asked.text) == ("propeller", "received", "request", "POST /post")
    assert (asked.octets, asked.connection, asked.peer) == (len(body), answered.connection, "127.0.0.1")
    assert ("content-type", FORM) in asked.fields
    assert f"topic={TOPIC}\ntoken=0123...cdef\ntitle=key ...\nbody=text" in asked.body
    assert (answered.way, answered.what, answered.text) == ("sent", "answer", "200 OK")
    assert '"token": "0123...cdef"' in answered.body
    assert (closed.way, closed.what) == ("event", "closed")
    assert not other.lines()


async def test_what_is_refused_is_shown_without_the_secret_that_was_wrong(start: Start) -> None:
    server = await start()
    watcher = watch(server, bodies=True)
    for name in ("auth_token", "Auth-Token"):
        push = urlencode({name: f"{SECRET}x", "topic": TOPIC, "token": TOKEN}).encode()
        await server.post(server.propeller, push, FORM, "/post")
    lines = watcher.lines()
    assert [line.text for line in lines if line.what == "answer"] == ["401 Unauthorized"] * 2
    assert SECRET not in " ".join(map(said, lines))


async def test_calls_of_pyapns_are_shown_but_never_a_key(start: Start) -> None:
    server = await start()
    watcher = watch(server, bodies=True)
    await server.call("provision", APP, PEM, "sandbox")
    await server.call("notify", APP, TOKEN, {"aps": {"alert": "hello"}})
    with pytest.raises(Fault):
        await server.call("notify", APP, TOKEN, "no dictionary")
    server.learn(TOKEN)
    await server.call("feedback", APP)
    lines = [line for line in watcher.lines() if line.what != "closed"]
    assert [line.what for line in lines] == ["request", "answer"] * 4
    assert {line.protocol for line in lines} == {"pyapns"}
    everything = " ".join(map(said, lines))
    assert "PRIVATE KEY" not in everything
    assert "MIIEvQ" not in everything
    assert TOKEN not in everything
    provision, notify, wrong, feedback = (lines[place : place + 2] for place in range(0, 8, 2))
    assert provision[0].octets > len(PEM)
    assert provision[0].body == ""
    assert "<methodName>notify</methodName>" in notify[0].body
    assert "hello" in notify[0].body
    assert "<nil" in notify[1].body
    assert "<fault>" in wrong[1].body
    assert "0123...cdef" in feedback[1].body


async def test_without_bodies_only_answers_that_have_no_payload_are_shown(start: Start) -> None:
    server = await start()
    watcher = watch(server)
    await server.call("provision", APP, PEM, "sandbox")
    push = {"auth_token": SECRET, "topic": TOPIC, "token": TOKEN, "title": "hello"}
    await server.post(server.propeller, urlencode(push).encode(), FORM, "/post")
    lines = await told(watcher, 6)
    assert all(line.octets for line in lines if line.what != "closed")
    (shown,) = [line for line in lines if line.body]
    assert (shown.protocol, shown.what) == ("pyapns", "answer")


async def test_a_connection_has_one_number_and_what_is_for_others_is_not_shown(start: Start) -> None:
    server = await start()
    watcher = watch(server)
    call = dumps(("provision", APP), "feedback").encode()  # not provisioned: nobody knows whose it is
    await server.post(server.pyapns, call)
    assert watcher.lines() == ()
    await server.call("provision", APP, PEM, "production")
    assert watcher.lines() == ()
    push = urlencode({"auth_token": SECRET, "topic": TOPIC, "token": TOKEN}).encode()
    head = f"POST /post HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(push)}\r\n"
    last = f"{head}Connection: close\r\n\r\n".encode()
    await server.say(server.propeller, f"{head}\r\n".encode() + push + last + push)
    lines = await told(watcher, 5)
    assert [line.what for line in lines] == ["request", "answer", "request", "answer", "closed"]
    assert len({line.connection for line in lines}) == 1
