"""What those who watch a domain are told of a client's connection to its gateway."""

from __future__ import annotations

import asyncio

from mcmt.clock import SystemClock
from mcmt.spool.port import GoneToken
from mcmt.wire.trace import LINES, Line
from tests.support.old_sender import PAYLOAD, enhanced, items, simple, token
from tests.support.watching import Watcher
from tests.unit.intake.apns_gateway.conftest import Gate, Server

DOMAIN = "apn.example.com"


def watch(server: Server, domain: str = DOMAIN, *, bodies: bool = False) -> Watcher:
    watcher = Watcher(domain, SystemClock(), bodies=bodies)
    server.doors.smtp.reception.tracing.watched.update(watcher.tracing.watched)
    return watcher


async def until(server: Server, watcher: Watcher, what: str) -> list[Line]:
    lines: list[Line] = []

    def came() -> bool:
        lines.extend(watcher.lines())
        return any(line.what == what for line in lines)

    await server.until(came)
    return lines


async def test_frames_and_the_error_packet_are_shown(gate: Gate) -> None:
    server = await gate()
    watcher, other = watch(server, bodies=True), watch(server, "other.example.com")
    client = await server.connect()
    frames = (simple(token(1)), enhanced(token(2), 7, expiry=4_000_000_000), items(token(3), 9, priority=3))
    await asyncio.to_thread(client.send, *frames)
    answer = await asyncio.to_thread(client.answer)
    assert answer is not None
    await asyncio.to_thread(client.close)
    session, first, second, third, packet, *_ = await until(server, watcher, "closed")
    assert (session.what, session.protocol, session.peer) == ("session", "binary", "127.0.0.1")
    assert (first.way, first.what, first.body) == ("received", "command 0", PAYLOAD.decode())
    assert first.octets == len(PAYLOAD)
    shown = dict(second.fields)
    assert (shown["identifier"], shown["expiration"]) == ("7", "4000000000")
    assert shown["token"] == f"{token(2)[:4]}...{token(2)[-4:]}"
    assert dict(third.fields)["priority"] == "3"
    assert (packet.way, packet.what) == ("sent", "error packet")
    assert "identifier 9" in packet.text
    assert {line.connection for line in (first, second, third, packet)} == {session.connection}
    assert not other.lines()


async def test_what_cannot_be_read_and_the_feedback_are_shown(gate: Gate) -> None:
    server = await gate()
    watcher = watch(server)
    client = await server.connect()
    await asyncio.to_thread(client.send, b"\x09nonsense")
    assert any(line.text for line in await until(server, watcher, "what cannot be read"))
    server.gone.add([GoneToken(DOMAIN, token(number), 1263550830.0, number=number) for number in (1, 2)])
    reader = await server.connect(server.feedback[0])
    (told,) = [line for line in await until(server, watcher, "feedback") if line.what == "feedback"]
    assert (told.way, told.text, told.octets) == ("sent", "2 device tokens", 2 * (4 + 2 + 32))
    await asyncio.to_thread(reader.close)


async def test_what_comes_faster_than_it_is_read_is_counted(gate: Gate) -> None:
    server = await gate()
    watcher = watch(server)
    client = await server.connect()
    await asyncio.to_thread(client.send, *(simple(token(number)) for number in range(LINES + 50)))
    await server.kept(LINES + 50)
    told = watcher.tracing.fetch(watcher.watch)
    assert (len(told.lines), told.left_out) == (LINES, 51)
