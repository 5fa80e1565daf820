"""The feedback service: every token that is gone, once a reader has them all."""

from __future__ import annotations

import asyncio
import socket

from mcmt.spool.port import GoneToken
from tests.support.old_sender import read_feedback, token
from tests.unit.intake.apns_gateway.conftest import Gate, Server

DOMAIN = "apn.example.com"
MANY = 20_000


def gone(count: int, domain: str = DOMAIN) -> list[GoneToken]:
    return [GoneToken(domain, token(number), 1_700_000_000.5 + number, number=number) for number in range(1, count + 1)]


def as_told(tokens: list[GoneToken]) -> list[tuple[int, str]]:
    return [(int(each.since), each.token) for each in tokens]


async def read(server: Server) -> list[tuple[int, str]]:
    client = await server.connect(server.feedback[0])
    data = await asyncio.to_thread(client.rest)
    await asyncio.to_thread(client.finish)
    return read_feedback(data)


async def test_a_reader_gets_every_token_of_its_domain_and_the_list_is_cleared(gate: Gate) -> None:
    server = await gate()
    server.gone.add(gone(2500) + gone(3, "other.example.com"))
    assert await read(server) == as_told(gone(2500))
    await server.until(lambda: len(server.gone.tokens) == 3)
    assert await read(server) == [], "an empty list is an end at once"
    assert {each.domain for each in server.gone.tokens} == {"other.example.com"}


async def test_what_is_gone_while_a_reader_reads_is_told_to_the_next_one(gate: Gate) -> None:
    server = await gate()
    server.gone.add(gone(1))
    client = await server.connect(server.feedback[0])
    assert read_feedback(await asyncio.to_thread(client.rest)) == as_told(gone(1))
    late = GoneToken(DOMAIN, token(99), 1_700_000_099.0, number=99)
    server.gone.add([late])
    client.close()
    await server.until(lambda: server.gone.tokens == [late])


async def test_a_reader_that_ends_half_way_gets_every_token_again(gate: Gate) -> None:
    server = await gate()
    server.gone.add(gone(MANY))
    client = await server.connect(server.feedback[0], receive_buffer=4096)
    await asyncio.to_thread(client.socket.recv, 10_000)
    client.close()  # as the kernel does for one that is killed
    await server.until(lambda: server.doors.sessions == 0)
    assert len(server.gone.tokens) == MANY
    assert await read(server) == as_told(gone(MANY))


async def test_a_reader_that_ends_before_it_read_what_its_kernel_has_gets_every_token_again(gate: Gate) -> None:
    server = await gate()
    server.gone.add(gone(1500))  # 57 KB: some records of TLS, and all of it in its kernel at once
    client = await server.connect(server.feedback[0])
    await asyncio.to_thread(client.socket.recv, 38)
    plain = socket.socket(fileno=client.socket.detach())
    await server.until(lambda: len(plain.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)) > 30_000)
    plain.close()
    await server.until(lambda: server.doors.sessions == 0)
    assert len(server.gone.tokens) == 1500


async def test_a_reader_that_does_not_read_is_cut_off_and_the_tokens_stay(gate: Gate) -> None:
    server = await gate(idle_timeout=0.3)
    server.gone.add(gone(MANY))
    await server.connect(server.feedback[0], receive_buffer=4096)
    await server.until(lambda: server.doors.sessions == 1)
    await server.until(lambda: server.doors.sessions == 0)
    assert len(server.gone.tokens) == MANY


async def test_a_token_that_has_no_tuple_is_passed_over(gate: Gate) -> None:
    server = await gate()
    odd = GoneToken(DOMAIN, "abc", 1_700_000_000.0, number=1)
    server.gone.add([odd])
    assert await read(server) == []
    await server.until(lambda: server.gone.tokens == [])


async def test_a_drain_leaves_the_list_as_it_was(gate: Gate) -> None:
    server = await gate()
    server.gone.add(gone(MANY))
    await server.connect(server.feedback[0], receive_buffer=4096)
    await server.until(lambda: server.doors.sessions == 1)
    await server.doors.drain(1.0)
    assert len(server.gone.tokens) == MANY
