"""The resources over a connection: who may, what comes in which form, where a message stands, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.spool.port import Entry
from mcmt.spool.standing import Ended, Known, Standing
from tests.unit.intake.http.conftest import KEY, LINE, MESSAGE, NARROW_KEY, Start, read_answer

RAW = "/v1/messages?to=user@sink.example.com"


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/v1/messages", "application/json", LINE),
        ("/v1/messages", "Application/JSON; charset=utf-8", LINE),
        (RAW, "message/rfc822", b"Subject: x\n\ntext\n"),
        (RAW, "multipart/vnd.msys.mcmt; boundary=B", b"--B\nContent-Type: message/rfc822\n\nSubject: x\n\nt\n--B--\n"),
    ],
)
async def test_a_message_is_taken_in_each_of_its_forms(start: Start, path: str, content_type: str, body: bytes) -> None:
    server = await start()
    answer = await server.request(body, path=path, Content_Type=content_type)
    assert (answer.status, answer.body["deliveries"]) == (202, 1)
    ((message, (delivery,), _),) = server.spool.accepted
    assert (message.batch_id, delivery.recipient) == (answer.body["id"], "user@sink.example.com")
    assert (message.envelope.protocol, message.envelope.user) == ("http", "shop")


async def test_a_boundary_that_is_no_text_is_the_clients_mistake(start: Start) -> None:
    server = await start()
    answer = await server.request(b"--B--\n", path=RAW, Content_Type="multipart/vnd.msys.mcmt; boundary=\xff")
    assert answer.status == 400


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"body": MESSAGE, "key": None}, 401, None),
        ({"body": MESSAGE, "key": "x"}, 401, None),
        ({"body": MESSAGE, "key": NARROW_KEY}, 403, "to[0]"),
        ({"method": "GET", "path": "/v1/messages/0", "key": NARROW_KEY}, 403, None),
        ({"body": b"x", "Content_Type": "text/plain"}, 415, "Content-Type"),
        ({"body": b"x", "Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        ({"body": b" " * 5001}, 413, None),
        ({"method": "PUT", "body": MESSAGE}, 405, None),
        ({"method": "DELETE", "path": "/v1/messages/0"}, 405, None),
        ({"method": "GET", "path": "/nothing"}, 404, None),
        ({"method": "GET", "path": "/v1/messages/%FF%00"}, 404, None),
        ({"method": "GET", "path": "/v1/messages/0?limit=-1"}, 400, "limit"),
        ({"method": "GET", "path": "/v1/messages/0?after=%D9%A3"}, 400, "after"),
    ],
)
async def test_a_refusal_is_a_problem(start: Start, request_: dict[str, Any], status: int, field: str | None) -> None:
    server = await start(max_message_size=5000)
    answer = await server.request(**request_)
    assert (answer.status, answer.body["status"], answer.body.get("field")) == (status, status, field)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["server"] == "mcmt"
    assert ("allow" in answer.headers) is (status == 405)
    assert server.sent == []


async def test_a_client_without_a_token_is_told_before_its_body_is_read(start: Start) -> None:
    server = await start()
    reader, writer = await server.connect()
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="mcmt"')
    writer.close()


async def test_a_body_that_is_too_large_is_told_from_its_length_and_held_no_further(start: Start) -> None:
    server = await start(max_message_size=5000)
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    reader, writer = await server.connect()
    writer.write(f"{head}Content-Length: 5001\r\n\r\n".encode())
    assert (await read_answer(reader)).status == 413
    writer.close()
    reader, writer = await server.connect()
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"3e8\r\n%b\r\n" % (b" " * 1000) * 6)
    assert (await read_answer(reader)).status == 413
    assert server.held == 0
    writer.close()


async def test_a_body_that_does_not_come_is_408_and_recorded(start: Start) -> None:
    server = await start(data_timeout=0.1)
    reader, writer = await server.connect()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 50\r\n\r\n{{".encode())
    assert (await read_answer(reader)).status == 408
    writer.close()
    await server.settled(lambda: bool(server.spool.recorded))
    assert (server.spool.recorded[0].code, server.held) == ("408", 0)


async def test_when_memory_is_short_a_client_is_told_when_to_come_again(start: Start) -> None:
    server = await start(intake=IntakeSettings(max_intake_bytes=3 * len(LINE) + 30))
    server.spool.gate.clear()
    first = asyncio.ensure_future(server.request(LINE))
    await server.spool.waiting.wait()
    answer = await server.request(LINE)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    server.spool.gate.set()
    assert (await first).status == 202
    assert (await server.request(LINE)).status == 202


async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(start: Start) -> None:
    server = await start()
    _, writer = await server.connect()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 5000\r\n\r\n{{".encode())
    await server.settled(lambda: server.held > 0)
    writer.transport.abort()
    await server.settled(lambda: server.held == 0 and not server.doors.sessions)
    assert server.sent == []


async def test_who_reads_no_answer_is_let_go_after_idle_timeout(start: Start) -> None:
    """A close alone would wait for it to read what was written."""
    server = await start(idle_timeout=0.3)
    known = Known("0", b"", "shop", 1000, 0.0)
    ended = [Ended(n, "a" * 60_000, "", 0.0, True, "200", "", "") for n in range(1000)]
    server.tracker.standings["0"] = Standing(known, ended, [])
    _, writer = await server.connect()
    writer.write(f"GET /v1/messages/0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    await server.settled(lambda: server.doors.sessions > 0)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # of every transport that reads
    await server.settled(lambda: not server.doors.sessions)
    writer.close()


async def test_where_a_message_stands_is_told_in_order_and_in_pages_to_who_sent_it(start: Start) -> None:
    server = await start()
    ended = [Ended(number, "a@b", "ab", 1.5, number == 1, "200", "", "x") for number in (3, 1)]
    pending = [Entry("0-2", "b", "a@b", "cd", "", 0.0, 5.0, 9.0, 2, "503 Later", 1, True)]
    server.tracker.standings["0"] = Standing(Known("0", b"", "shop", 3, 0.25), ended, pending)

    async def ask(query: str = "") -> dict[str, Any]:
        answer = await server.request(method="GET", path=f"/v1/messages/0{query}")
        assert answer.status == 200
        told: dict[str, Any] = answer.body
        return told

    told = await ask()
    assert (told["id"], told["received"], told["total"], "next" in told) == ("0", "1970-01-01T00:00:00.250Z", 3, False)
    assert [(one["id"], one["state"]) for one in told["deliveries"]] == [
        ("0-1", "delivered"),
        ("0-2", "sending"),
        ("0-3", "failed"),
    ]
    assert told["deliveries"][1] == {
        "id": "0-2",
        "to": "a@b",
        "token": "cd",
        "state": "sending",
        "attempts": 2,
        "expires": "1970-01-01T00:00:09.000Z",
        "due": "1970-01-01T00:00:05.000Z",
        "last": "503 Later",
    }
    first = await ask("?limit=2")
    assert [one["id"] for one in first["deliveries"]] == ["0-1", "0-2"]
    rest = await ask(first["next"].partition("0")[2])
    assert ([one["id"] for one in rest["deliveries"]], "next" in rest) == (["0-3"], False)
    server.tracker.standings["1"] = Standing(Known("1", b"", "other", 0, 0.0), [], [])
    others, unknown = [await server.request(method="GET", path=f"/v1/messages/{name}") for name in "12"]
    assert (others.status, unknown.status) == (404, 404)
    assert others.body["detail"].replace("1", "2") == unknown.body["detail"]


async def test_requests_in_turn_and_in_a_pipeline_are_answered_in_order(start: Start) -> None:
    server = await start()
    reader, writer = await server.connect()
    one = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(LINE)}\r\n\r\n"
    ).encode() + LINE
    writer.write(one * 3)
    ids = [(await read_answer(reader)).body["id"] for _ in range(3)]
    writer.write(one)
    ids.append((await read_answer(reader)).body["id"])
    assert ids == [message.batch_id for message, _, _ in server.spool.accepted]
    writer.close()


async def test_a_request_that_is_being_kept_when_the_engine_stops_is_answered(start: Start) -> None:
    server = await start()
    server.spool.gate.clear()
    asking = asyncio.ensure_future(server.request(MESSAGE))
    await server.spool.waiting.wait()
    draining = asyncio.ensure_future(server.doors.drain(20.0))
    await asyncio.sleep(0)
    server.spool.gate.set()
    assert (await asking).status == 202
    await draining


async def test_the_document_needs_no_token_and_names_every_field_and_status(start: Start) -> None:
    server = await start()
    answer = await server.request(method="GET", path="/v1/openapi.json", key=None)
    told = answer.body
    assert (answer.status, told["openapi"]) == (200, "3.1.0")
    schemas = told["components"]["schemas"]
    assert set(schemas["SubmittedMessage"]["properties"]) == {
        *("to", "parts", "from", "headers", "schedule", "expires", "priority")
    }
    assert set(schemas["SubmittedPart"]["properties"]) == {"media_type", "headers", "tokens", "json", "text", "base64"}
    post = told["paths"]["/v1/messages"]["post"]
    assert {"200", "202", "400", "401", "403", "408", "413", "415", "422", "429", "503"} == set(post["responses"])
    references = set(json.dumps(told).split('"#/components/schemas/')[1:])
    assert {one.partition('"')[0] for one in references} <= set(schemas)
