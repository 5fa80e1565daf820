"""What happens at each limit: connections, time, memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from mcmt.config.settings import INTAKE_COPIES, IntakeSettings, ListenSettings
from mcmt.intake import limits
from mcmt.intake.door import SessionLimits, Sessions, client_of
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.pace import content_deadline
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, Client, Server, make_settings
from tests.unit.intake.test_listener import HandClock

ENVELOPE = b"MAIL FROM:<>\r\nRCPT TO:<t@sink.example.com>\r\nDATA\r\n"


async def refused(server: Server) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    said = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return said


async def start_data(server: Server) -> Client:
    client = await server.hello()
    client.send(ENVELOPE)
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
    return client


# -- connections -------------------------------------------------------------------------------------------------


async def test_connections_in_all_are_bounded_and_the_next_one_is_told_why(serve: Serve) -> None:
    server = await serve(settings=make_settings(intake=IntakeSettings(max_connections=2)))
    first, _ = await server.connect(), await server.connect()
    assert await refused(server) == (
        b"421 4.3.2 2 connections are open, no more are taken (max_connections); try again later\r\n"
    )
    assert server.listener.sessions == 2
    await first.ask("QUIT")
    await first.rest()
    await server.connect()


async def test_connections_of_one_client_are_bounded_and_others_come_in(serve: Serve) -> None:
    server = await serve(
        host=None, settings=make_settings(intake=IntakeSettings(max_connections=100, max_connections_per_address=2))
    )
    port = server.address[1]
    first, _ = await server.connect(), await server.connect()
    said = await refused(server)
    assert said.startswith(b"421 4.7.0 2 connections are open from your address")
    assert b"(max_connections_per_address)" in said
    server.address = ("::1", port)
    await server.connect()
    await first.ask("QUIT")
    await first.rest()
    server.address = ("127.0.0.1", port)
    await server.connect()


async def test_many_connections_turned_away_are_one_line_for_the_operator(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    server = await serve(clock=clock, settings=make_settings(intake=IntakeSettings(max_connections=1)))
    await server.connect()
    for _ in range(5):
        await refused(server)
    assert caplog.text.count("turned away") == 1
    clock.move(limits.REMINDER)
    await refused(server)
    assert "5 connections turned away, the last one from 127.0.0.1: 1 connections are open" in caplog.text


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("", ""),
        ("x:y", "x:y"),
    ],
)
def test_an_ipv6_client_is_its_network(peer: str, client: str) -> None:
    """One subscriber has 2**64 addresses."""
    assert client_of(peer) == client


def test_what_is_known_of_clients_is_forgotten_with_their_last_connection() -> None:
    class Nothing:
        def drain(self) -> None: ...
        def abort(self) -> None: ...

    limits = SessionLimits(IntakeSettings(), HandClock())
    sessions = Sessions(limits)
    members = [Nothing() for _ in range(10)]
    for number, member in enumerate(members):
        assert sessions.admit(member, str(number % 3)) is None
    for member in members:
        sessions.discard(member)
        sessions.discard(member)
    assert len(sessions) == 0
    assert not limits._per_address
    assert limits.count == 0


# -- time --------------------------------------------------------------------------------------------------------


async def test_a_command_that_comes_octet_by_octet_is_late_all_the_same(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, idle_timeout=60.0)
    client = await server.hello()
    for octet in b"NOOP ":
        client.send(bytes([octet]))
        await asyncio.sleep(0.005)
        clock.move(11.0)
    clock.move(5.0)
    assert (await client.rest()).startswith("421 4.4.2 nothing came for 60 seconds (idle_timeout)")


async def test_a_line_without_end_is_late_all_the_same(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, idle_timeout=60.0)
    client = await server.hello()
    for _ in range(5):
        client.send(b"x" * limits.COMMAND_LINE)
        await asyncio.sleep(0.005)
        clock.move(12.0)
    assert (await client.rest()).startswith("421 4.4.2 ")


async def test_single_octets_of_a_message_do_not_earn_time(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, min_data_rate=100)
    client = await server.hello()
    # The session has looked at the clock before, when it had minutes left.
    clock.move(31.0)
    client.send(ENVELOPE)
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
    for _ in range(7):
        client.send(b"x")
        await asyncio.sleep(0.005)
        clock.move(5.0)
    said = await client.rest()
    assert said.startswith("421 4.4.2 the message comes slower than 100 octets a second (min_data_rate)")
    assert not server.spool.accepted
    (event,) = server.spool.recorded
    assert (event.phase, event.code, event.recipient) == ("DATA", "421", "t@sink.example.com")


async def test_a_message_that_comes_fast_enough_may_last_as_long_as_data_timeout(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, min_data_rate=100, data_timeout=300.0)
    client = await start_data(server)

    async def send(seconds: float) -> None:
        client.send((b"x" * 98 + b"\r\n") * int(seconds))
        await asyncio.sleep(0.005)
        clock.move(seconds)

    for _ in range(29):
        await send(10.0)
    assert server.listener.sessions == 1
    await send(10.0)
    said = await client.rest()
    assert said.startswith("421 4.4.2 the message did not end within 300 seconds (data_timeout)")


async def test_a_burst_does_not_buy_an_endless_pause(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, min_data_rate=1, idle_timeout=100.0)
    client = await start_data(server)
    client.send(b"x\r\n" * 100_000)
    async with asyncio.timeout(5):
        while not server.listener._sessions._members:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    clock.move(99.0)
    assert server.listener.sessions == 1
    clock.move(2.0)
    assert (await client.rest()).startswith("421 4.4.2 nothing came for 100 seconds (idle_timeout)")


async def test_short_times_are_noticed_in_time(serve: Serve) -> None:
    """The real clock: data_timeout is shorter than everything else, and is not looked at in 30 seconds."""
    server = await serve(data_timeout=0.2)
    client = await start_data(server)
    client.send(b"x")
    assert (await client.rest()).startswith("421 4.4.2 the message did not end within 0.2 seconds")


async def test_the_next_message_has_its_own_time(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, min_data_rate=100)
    client = await start_data(server)
    for _ in range(3):
        client.send(b"x\r\n")
        await asyncio.sleep(0.005)
        clock.move(9.0)
        client.send(b".\r\n")
        assert (await client.reply()).startswith("250")
        clock.move(15.0)
        client.send(ENVELOPE)
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
    client.send(b".\r\n")
    assert (await client.reply()).startswith("250")


async def test_our_own_time_is_not_the_clients(serve: Serve) -> None:
    clock = HandClock()
    server = await serve(clock=clock, idle_timeout=60.0, data_timeout=60.0)
    server.spool.gate.clear()
    client = await start_data(server)
    client.send(b"x\r\n.\r\n")
    await server.spool.waiting.wait()
    for _ in range(5):
        clock.move(50.0)
    server.spool.gate.set()
    assert (await client.reply()).startswith("250")
    clock.move(59.0)
    assert (await client.ask("NOOP")).startswith("250")


@pytest.mark.parametrize(
    ("octets", "deadline", "reason"),
    [
        (0, 130.0, "min_data_rate"),
        (500, 131.0, "min_data_rate"),
        (100_000, 330.0, "min_data_rate"),
        (10**9, 700.0, "data_timeout"),
    ],
)
def test_every_octet_earns_the_time_it_may_take(octets: int, deadline: float, reason: str) -> None:
    until, why = content_deadline(ListenSettings(host=None, port=0), 100.0, octets)
    assert until == deadline
    assert reason in why


def test_without_a_rate_only_the_whole_counts() -> None:
    until, why = content_deadline(ListenSettings(host=None, port=0, min_data_rate=0), 100.0, 0)
    assert (until, "data_timeout" in why) == (700.0, True)


# -- memory ------------------------------------------------------------------------------------------------------


def small(limit: int) -> Any:
    return make_settings(intake=IntakeSettings(max_intake_bytes=limit))


async def test_messages_that_do_not_fit_together_are_told_to_come_later(serve: Serve) -> None:
    server = await serve(settings=small(1_000_000))
    first, second = await start_data(server), await start_data(server)
    line = b"x" * 998 + b"\r\n"
    first.send(line * 300)
    async with asyncio.timeout(5):
        while server.listener.held_bytes < INTAKE_COPIES * 299_000:
            await asyncio.sleep(0.001)
    second.send(line * 200 + b".\r\n")
    assert (await second.reply()).startswith("452 4.3.1 too many messages are being received (max_intake_bytes)")
    # Nothing of the second is held, and the session goes on: what is small still fits.
    assert server.listener.held_bytes <= INTAKE_COPIES * 300_000
    second.send(ENVELOPE + b"x\r\n.\r\n")
    assert [(await second.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
    first.send(b".\r\n")
    assert (await first.reply()).startswith("250")
    assert server.listener.held_bytes == 0
    second.send(ENVELOPE + line * 200 + b".\r\n")
    assert [(await second.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]


async def test_a_declared_size_that_does_not_fit_is_told_at_mail(serve: Serve) -> None:
    server = await serve(settings=small(3_000))
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<> SIZE=1001")).startswith("452 4.3.1 ")
    assert (await client.ask("MAIL FROM:<> SIZE=1000")).startswith("250")


async def test_without_any_room_data_is_not_begun(serve: Serve) -> None:
    server = await serve(settings=small(3_000))
    server.spool.gate.clear()
    first = await start_data(server)
    first.send(b"x" * 998 + b"\r\n.\r\n")
    await server.spool.waiting.wait()
    second = await server.hello()
    second.send(ENVELOPE)
    assert [(await second.reply())[:9] for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "452 4.3.1"]
    server.spool.gate.set()
    assert (await first.reply()).startswith("250")


@pytest.mark.parametrize(
    "ending", [b"", b"\n", b"\0\r\n.\r\n", b"x" * 70_000 + b"\r\n.\r\n", b"x\r\n" * 9000 + b".\r\n"]
)
async def test_whatever_ends_a_message_gives_its_memory_back(serve: Serve, ending: bytes) -> None:
    server = await serve(max_message_size=20_000)
    client = await start_data(server)
    client.send(b"x\r\n" * 1000)
    async with asyncio.timeout(5):
        while not server.listener.held_bytes:
            await asyncio.sleep(0.001)
    client.send(ending)
    if ending:
        assert (await client.reply())[:1] == "5"
    client.writer.transport.abort()
    async with asyncio.timeout(5):
        while server.listener.sessions:
            await asyncio.sleep(0.001)
    assert server.listener.held_bytes == 0


async def test_what_is_counted_is_what_is_used(serve: Serve) -> None:
    """A message of 4 MB: before the spool writes it, two octets are held for each of its own, and three are counted."""
    server = await serve()
    client = await server.ready()
    body = b"x" * 998 + b"\r\n"
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        client.send(
            MCMT.removesuffix(b"--B--\r\n") + b"--B\r\nContent-Type: message/rfc822\r\n\r\nSubject: large\r\n\r\n"
        )
        for _ in range(40):
            client.send(body * 100)
            await client.writer.drain()
        client.send(b"--B--\r\n.\r\n")
        assert (await client.reply()).startswith("250")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = server.spool.accepted[0][0].size
    assert size > 4_000_000
    assert peak - before < (INTAKE_COPIES - 1) * size * 1.1


def test_the_allowance_is_exact() -> None:
    memory = IntakeMemory(INTAKE_COPIES * 10)
    assert memory.fits(10)
    assert not memory.fits(11)
    assert memory.take(10)
    assert not memory.take(1)
    assert memory.take(-4)
    assert memory.take(4)
    memory.give_back(10)
    assert memory.held == 0
