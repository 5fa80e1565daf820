"""Many messages in one request: what each line is answered, what is a line's own, and what bounds them all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.errors import SpoolFull
from mcmt.intake.http.bulk import AT_ONCE
from tests.unit.intake.http.conftest import KEY, LINE, MESSAGE, NDJSON, Start, read_answer


def line_for(recipient: str, **more: Any) -> bytes:
    return json.dumps({**MESSAGE, "to": [recipient], **more}).encode() + b"\n"


def open_request(**headers: str) -> bytes:
    """The head of a request whose body comes in chunks."""
    given = {"Authorization": f"Bearer {KEY}", "Content-Type": NDJSON, "Transfer-Encoding": "chunked", **headers}
    fields = "".join([f"{name}: {value}\r\n" for name, value in given.items()])
    return f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)


async def test_every_line_is_answered_in_its_place_and_one_that_is_refused_concerns_no_other(start: Start) -> None:
    server = await start()
    answers = await server.bulk(LINE, b"no json\n", line_for("b@sink.example.com"), line_for("nobody"))
    assert [(one["line"], one["status"], one.get("field", "")) for one in answers] == [
        (1, 202, ""),
        (2, 400, ""),
        (3, 202, ""),
        (4, 400, "to[0]"),
    ]
    assert server.sent == ["user@sink.example.com", "b@sink.example.com"]
    assert [answers[0]["id"], answers[2]["id"]] == [message.batch_id for message, _, _ in server.spool.accepted]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n \n"])
async def test_empty_lines_are_none_and_the_last_one_needs_no_end(start: Start, end: bytes) -> None:
    server = await start()
    answers = await server.bulk(b"\n", LINE, b"\r\n", LINE.rstrip() + end)
    assert [(one["line"], one["status"]) for one in answers] == [(1, 202), (2, 202)]


async def test_a_line_that_is_too_long_is_refused_alone_however_it_is_cut(start: Start) -> None:
    """It is thrown away as it comes, so it is never held."""
    server = await start(max_message_size=2000, intake=IntakeSettings(max_intake_bytes=4_000_000))
    long = b'{"x": "' + b"y" * 5_000_000 + b'"}\n'
    answers = await server.bulk(LINE, long, LINE, b"z" * 2001 + b"\n", LINE, long.rstrip())
    assert [(one["line"], one["status"]) for one in answers] == [
        (1, 202),
        (2, 413),
        (3, 202),
        (4, 413),
        (5, 202),
        (6, 413),
    ]
    assert "max_message_size" in answers[1]["detail"]
    assert len(server.sent) == 3


async def test_no_two_lines_have_one_key(start: Start) -> None:
    """Not those of keys that are as long as a key may be, nor those of one that looks like another's line."""
    server = await start()
    long = "x" * 254
    ids = []
    for key in ("a" + long, "b" + long, "k", "k/1", "k/1/1", "k1"):
        ids += [one["id"] for one in await server.bulk(*[LINE] * 12, Idempotency_Key=key)]
    for key in ("k", "k/1", "k/1/1", "k1", "k12"):
        ids.append((await server.request(LINE, Idempotency_Key=key)).body["id"])
    assert len(set(ids)) == len(ids) == len(server.spool.accepted)


@pytest.mark.parametrize("key", ["newsletter-12", '"newsletter-12"', "x" * 255])
async def test_sent_again_with_its_key_each_line_is_the_message_that_it_was(start: Start, key: str) -> None:
    server = await start()
    lines = [line_for(f"u{number}@sink.example.com") for number in range(20)]
    first = await server.bulk(*lines, Idempotency_Key=key)
    assert await server.bulk(*lines, Idempotency_Key=key) == first
    assert await server.bulk(*lines, Idempotency_Key=key.strip('"')) == first
    assert len(server.sent) == 20


async def test_another_line_in_its_place_is_refused(start: Start) -> None:
    server = await start()
    await server.bulk(LINE, LINE, Idempotency_Key="k")
    answers = await server.bulk(LINE, line_for("b@sink.example.com"), Idempotency_Key="k")
    assert [(one["status"], one.get("field")) for one in answers] == [(202, None), (422, "Idempotency-Key")]


@pytest.mark.parametrize("key", ["", "x" * 256, "schl\xfcssel"])
async def test_a_key_that_is_none_is_refused_before_a_line_is_read(start: Start, key: str) -> None:
    server = await start()
    answer = await server.request(LINE, Content_Type=NDJSON, Idempotency_Key=key)
    assert (answer.status, answer.body["field"]) == (400, "Idempotency-Key")
    assert server.sent == []


async def test_a_line_is_answered_before_the_next_has_come(start: Start) -> None:
    server = await start()
    reader, writer = await server.connect()
    writer.write(open_request() + chunk(LINE[:20]))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(chunk(LINE[20:]))
    async with asyncio.timeout(20):
        await reader.readline()
        assert json.loads(await reader.readline())["status"] == 202
    writer.close()


async def test_what_is_not_kept_says_so_in_its_line_with_a_time_to_come_again(start: Start) -> None:
    server = await start()
    server.spool.failure = SpoolFull("full")
    (answer,) = await server.bulk(LINE)
    assert (answer["status"], answer["retry_after"]) == (503, 30)


async def test_where_memory_is_short_the_request_ends_with_a_time_to_come_again(start: Start) -> None:
    server = await start(intake=IntakeSettings(max_intake_bytes=3 * len(LINE) * 3))
    server.spool.gate.clear()
    reader, writer = await server.connect()
    writer.write(open_request() + chunk(LINE))
    await server.spool.waiting.wait()
    writer.write(chunk(LINE * 20))
    server.spool.gate.set()
    answers = [json.loads(line) for line in (await read_answer(reader)).body.splitlines()]
    assert [one["status"] for one in answers[:1] + answers[-1:]] == [202, 429]
    assert answers[-1]["retry_after"] == 1
    assert "max_intake_bytes" in answers[-1]["detail"]
    writer.close()


async def test_a_client_that_falls_silent_is_told_so_in_the_last_line(start: Start) -> None:
    server = await start(data_timeout=0.2)
    reader, writer = await server.connect()
    writer.write(open_request() + chunk(LINE + LINE[:10]))
    answers = [json.loads(line) for line in (await read_answer(reader)).body.splitlines()]
    assert [(one["line"], one["status"]) for one in answers] == [(1, 202), (2, 408)]
    writer.close()


async def test_only_so_many_lines_are_on_their_way_at_once(start: Start) -> None:
    server = await start()
    server.spool.gate.clear()
    bodies = asyncio.ensure_future(server.bulk(*[LINE] * (AT_ONCE * 3)))
    await server.settled(lambda: server.held > 0)
    for _ in range(20):
        await asyncio.sleep(0.01)  # so that more would be, if more could
    waiting = sum([task.get_coro().__qualname__ == "Bulk._one" for task in asyncio.all_tasks()])  # type: ignore[union-attr]
    assert waiting <= AT_ONCE + 2
    server.spool.gate.set()
    assert len(await bodies) == AT_ONCE * 3


async def test_who_reads_no_answers_is_let_go_and_what_was_read_is_kept(start: Start) -> None:
    server = await start(data_timeout=0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))

        async def write() -> None:
            await loop.sock_sendall(client, open_request())
            while True:
                await loop.sock_sendall(client, chunk(LINE + b"{}\n" * 5000))

        with pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe, whichever is first
            await asyncio.wait_for(write(), 20)
    await server.settled(lambda: server.held == 0)
    assert server.sent


async def test_what_is_on_its_way_when_its_client_goes_is_kept_and_no_octet_stays(start: Start) -> None:
    server = await start()
    server.spool.gate.clear()
    _, writer = await server.connect()
    writer.write(open_request() + chunk(LINE * 3 + LINE[:7]))
    await server.spool.waiting.wait()
    await server.settled(lambda: server.held >= len(LINE) * 3 * 3)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    await server.settled(lambda: not server.doors.sessions)
    server.spool.gate.set()
    await server.settled(lambda: server.held == 0)
    assert len(server.sent) == 3
