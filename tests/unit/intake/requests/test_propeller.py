"""What clients of propeller-apns say, and what they are answered."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import urlencode

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.errors import SpoolFull
from tests.unit.intake.requests.conftest import SECRET, TOPIC, Server, Start

TOKEN = "a1" * 32
FORM = "application/x-www-form-urlencoded"
PUSH = {"auth_token": SECRET, "title": "T", "body": "Bü", "badge": "3", "token": TOKEN, "topic": TOPIC}


async def post(server: Server, **fields: str) -> tuple[str, bytes]:
    return await server.post(server.propeller, urlencode(fields).encode(), FORM, "/post")


async def test_a_push_is_answered_with_the_job_and_sent_as_propeller_sent_it(start: Start) -> None:
    server = await start()
    head, body = await post(server, **PUSH)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/html; charset=utf-8\r\n" in head
    assert body == f'{{"title": "T", "body": "B\\u00fc", "badge": 3, "token": "{TOKEN}"}}'.encode()
    assert server.sent == [
        (TOKEN, '{"aps":{"content-available":0,"alert":{"title":"T","body":"Bü"},"badge":3}}'.encode())
    ]
    ((message, deliveries, _),) = server.spool.accepted
    assert dict(message.parts[0].headers) == {
        "apns-topic": TOPIC,
        "apns-priority": "10",
        "apns-push-type": "alert",
    }
    assert (message.envelope.protocol, deliveries[0].due) == ("propeller", 0.0)


async def test_what_is_not_given_is_null_and_left_out(start: Start) -> None:
    server = await start()
    _, body = await post(server, auth_token=SECRET, token=TOKEN, topic=TOPIC, badge="many")
    assert body == f'{{"title": null, "body": null, "badge": null, "token": "{TOKEN}"}}'.encode()
    assert server.sent == [(TOKEN, b'{"aps":{"content-available":0,"alert":{}}}')]


async def test_a_form_of_mime_is_a_form(start: Start) -> None:
    server = await start()
    parts = [f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in PUSH.items()]
    body = ("".join(parts) + "--B--\r\n").encode()
    head, _ = await server.post(server.propeller, body, "multipart/form-data; boundary=B", "/post")
    assert head.startswith("HTTP/1.1 200 ")
    assert [token for token, _ in server.sent] == [TOKEN]
    assert "Bü".encode() in server.sent[0][1]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (urlencode({**PUSH, "auth_token": "wrong"}), FORM),
        (urlencode({**PUSH, "auth_token": "ü"}), FORM),
        (urlencode({"token": TOKEN}), FORM),
        (json.dumps({"auth_token": SECRET}), "application/json"),
        ("&".join(["a=b"] * 1000), FORM),
        # email's parser ends in an IndexError.
        ("--B\r\nContent-Disposition: =?.;\u00ff\r\n *\r\n\r\nv\r\n--B--\r\n", "multipart/form-data; boundary=B"),
    ],
)
async def test_who_does_not_show_the_token_is_unauthorized(start: Start, body: str, content_type: str) -> None:
    server = await start()
    head, told = await server.post(server.propeller, body.encode(), content_type, "/post")
    assert head.startswith("HTTP/1.1 401 Unauthorized\r\n")
    assert "Content-Type: text/html; charset=utf-8\r\n" in head
    assert told == b"Unauthorized"
    assert server.sent == []


async def test_a_delay_is_when_the_push_is_due(start: Start) -> None:
    server = await start()
    before = time.time()
    head, _ = await post(server, **PUSH, delay="3600")
    assert head.startswith("HTTP/1.1 200 ")
    ((_, (delivery,), _),) = server.spool.accepted
    assert before + 3600 <= delivery.due <= time.time() + 3600
    assert delivery.expires > delivery.due


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": "soon"},
        {"delay": "-1"},
        {"delay": "1.5"},
        {"delay": "9999999999"},
        {"topic": ""},
        {"topic": "com.example.other"},
        {"token": ""},
        {"token": "no hex"},
        {"token": f"{TOKEN},{TOKEN}"},
        {"body": "x" * 5000},
    ],
)
async def test_what_could_not_be_sent_is_400_and_nothing_is_kept(start: Start, wrong: dict[str, str]) -> None:
    server = await start()
    head, told = await post(server, **{**PUSH, **wrong})
    assert head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert told
    assert server.sent == []
    await server.doors.drain(0.0)
    (event,) = server.spool.recorded
    assert (event.protocol, event.phase) == ("propeller", "/post")


async def test_what_is_not_kept_is_503_with_a_time_to_come_again(start: Start) -> None:
    server = await start()
    server.spool.failure = SpoolFull("full")
    head, _ = await post(server, **PUSH)
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "Retry-After: 30\r\n" in head


async def test_when_memory_is_short_a_client_is_told_to_come_again(start: Start) -> None:
    server = await start(intake=IntakeSettings(max_intake_bytes=3000))
    head, told = await post(server, **{**PUSH, "body": "x" * 1000})
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "Retry-After: 30\r\n" in head
    assert b"max_intake_bytes" in told
    head, _ = await post(server, **PUSH)
    assert head.startswith("HTTP/1.1 200 ")


async def test_what_is_being_kept_is_answered_though_there_is_no_room_for_what_comes_behind_it(start: Start) -> None:
    server = await start(intake=IntakeSettings(max_intake_bytes=3000))
    server.spool.gate.clear()
    body = urlencode(PUSH).encode()
    head = f"POST /post HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.propeller)
    writer.write(head.encode() + body)
    await asyncio.wait_for(server.spool.waiting.wait(), 5)
    writer.write(b"x" * 2000)
    await asyncio.sleep(0.05)  # what is thrown away has no event to wait for
    server.spool.gate.set()
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/", 200, b"<!-- Nothing to see here -->"),
        ("GET", "/form", 401, b"Unauthorized"),
        ("GET", "/post", 405, None),
        ("GET", "/log.txt", 404, None),
    ],
)
async def test_the_other_paths(start: Start, method: str, path: str, status: int, body: bytes | None) -> None:
    server = await start()
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answer = await server.say(server.propeller, request)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    if body is not None:
        assert answer.endswith(b"\r\n\r\n" + body)


async def test_a_body_that_is_too_large_is_refused_before_it_comes(start: Start) -> None:
    server = await start()
    head = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"
    assert (await server.say(server.propeller, head)).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_asks_first_is_told_to_go_on(start: Start) -> None:
    server = await start()
    head = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.propeller)
    writer.write(head)
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"auth_token")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 401 ")
    writer.close()
