"""What those who watch a domain are told of the HTTP API's requests."""

from __future__ import annotations

import asyncio

from mcmt.clock import SystemClock
from mcmt.wire.trace import Line
from tests.support.watching import Watcher
from tests.unit.intake.http.conftest import KEY, LINE, MAIL, MESSAGE, NARROW_KEY, Server, Start

DOMAIN = "sink.example.com"
TOKEN = "0123456789abcdef" * 4


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


async def test_a_message_for_the_domain_is_shown_with_its_answer_and_without_the_token(start: Start) -> None:
    server = await start()
    watcher, other = watch(server, bodies=True), watch(server, "other.example.com")
    part = {**MAIL, "tokens": [TOKEN], "headers": {"x-a": "Bearer abcdefghijklm"}}
    answer = await server.request({"to": ["u@SINK.example.com"], "parts": [part]}, Idempotency_Key="k1")
    assert answer.status == 202
    asked, answered, closed = await told(watcher, 3)
    assert (asked.protocol, asked.way, asked.what, asked.text) == ("http", "received", "request", "POST /v1/messages")
    assert dict(asked.fields)["Authorization"] == f"Bearer ... ({len(KEY) + 7} octets)"
    assert dict(asked.fields)["Idempotency-Key"] == "k1"
    assert "0123...cdef" in asked.body
    assert "Bearer ..." in asked.body
    assert (answered.way, answered.what, answered.text) == ("sent", "answer", "202 Accepted")
    assert answer.body["id"] in answered.body
    assert dict(answered.fields)["Location"].endswith(answer.body["id"])
    assert closed.what == "closed"
    everything = " ".join(str(line) for line in (asked, answered))
    assert KEY not in everything
    assert TOKEN not in everything
    assert not other.lines()


async def test_a_refusal_is_shown_also_of_what_cannot_be_read(start: Start) -> None:
    server = await start()
    watcher = watch(server)
    await server.request(b'{"to": ["u@sink.example.com"], "parts": [}')
    await server.request({**MESSAGE, "to": ["not an address@sink.example.com"]})
    await server.request(MESSAGE, key=NARROW_KEY)
    await server.request({**MESSAGE, "to": ["u@other.example.com"], "parts": []})
    lines = await told(watcher, 9)
    assert [line.text for line in lines if line.what == "answer"] == [
        "400 Bad Request",
        "400 Bad Request",
        "403 Forbidden",
    ]
    assert not any(line.body for line in lines if line.what == "request")
    assert [("detail" in line.body) for line in lines if line.what == "answer"] == [True] * 3


async def test_a_raw_message_is_known_by_its_query(start: Start) -> None:
    server = await start()
    watcher = watch(server, bodies=True)
    mail = b"Subject: x\r\n\r\nhello\r\n"
    await server.request(mail, path="/v1/messages?to=u%40sink.example.com", Content_Type="message/rfc822")
    await server.request(mail, path="/v1/messages?to=u%40sink.example.com&x=1", Content_Type="message/rfc822")
    lines = await told(watcher, 6)
    assert [line.text for line in lines if line.what == "answer"] == ["202 Accepted", "400 Bad Request"]
    assert [line.body for line in lines if line.what == "request"] == [mail.decode()] * 2


async def test_of_many_messages_those_of_the_domain_are_shown_line_by_line(start: Start) -> None:
    server = await start()
    watcher = watch(server, bodies=True)
    other = LINE.replace(b"sink.", b"other.")
    await server.bulk(LINE, other, b"no json for u@sink.example.com\n", LINE)
    lines = await told(watcher, 7)
    assert sorted((line.text, line.what) for line in lines if line.text) == [
        (f"line {number}", what) for number in (1, 3, 4) for what in ("answer", "request")
    ]
    assert {line.connection for line in lines} == {lines[0].connection}
    assert any(line.body == LINE.decode().rstrip("\n") for line in lines)
