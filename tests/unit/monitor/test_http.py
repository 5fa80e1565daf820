"""The responder under what scrapers, browsers and strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from mcmt.errors import ListenError
from mcmt.monitor import http
from mcmt.monitor.http import CLIENTS, HEAD_LIMIT, HttpServer, Reply


async def good() -> Reply:
    return Reply(HTTPStatus.OK, b"good\n")


async def bug() -> Reply:
    raise ValueError("a bug")


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    running = HttpServer("127.0.0.1", 0, {"/good": good, "/bug": bug})
    await running.start()
    yield running
    await running.close()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def ask(server: HttpServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        await hang_up(writer)


async def test_a_path_is_answered_once_and_the_connection_ends(server: HttpServer) -> None:
    head, _, body = (await ask(server, b"GET /good?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"Content-Length: 5", b"Connection: close", b"Content-Type: text/plain; charset=utf-8"} <= set(lines)
    assert body == b"good\n"


async def test_head_has_no_body(server: HttpServer) -> None:
    answer = await ask(server, b"HEAD /good HTTP/1.1\r\nhost:x\r\n\r\n")
    assert b"Content-Length: 5" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /good HTTP/1.0\r\n\r\n", 200),
        (b"GET /else HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /good HTTP/1.1\r\n\r\n", 400),
        (b"GET /good HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /good HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /good HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /good HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET  /good HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x/good HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /good HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /good HTTP/1.1\r\nHost: x\r\nA: " + b"a" * HEAD_LIMIT * 2, 431),
    ],
)
async def test_what_is_not_right_is_told_by_a_status(server: HttpServer, request_: bytes, status: int) -> None:
    assert (await ask(server, request_)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_request_that_does_not_come_is_not_waited_for(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    assert (await ask(server, b"GET /good HT")).startswith(b"HTTP/1.1 408 ")


async def test_clients_past_the_limit_are_hung_up_on_and_the_rest_are_served(server: HttpServer) -> None:
    waiting = [await asyncio.open_connection(*server.addresses[0]) for _ in range(CLIENTS)]
    with contextlib.suppress(ConnectionError):
        assert await ask(server, b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    reader, writer = waiting[0]
    writer.write(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    for _, writer in waiting:
        await hang_up(writer)


async def test_a_bug_in_an_answer_is_a_500_and_the_next_one_is_answered(
    server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL + 1, "mcmt"):
        assert (await ask(server, b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
    assert (await ask(server, b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_an_address_that_is_taken_is_named(server: HttpServer) -> None:
    host, port = server.addresses[0]
    with pytest.raises(ListenError, match=f"{host}:{port} cannot be listened on"):
        await HttpServer(host, port, {}).start()


async def test_closing_hangs_up_on_who_waits(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    writer.write(b"GET")
    await asyncio.sleep(0)
    await server.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await hang_up(writer)
