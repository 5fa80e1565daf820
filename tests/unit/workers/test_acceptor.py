"""Connections go to the worker with the fewest, within limits that hold for all workers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from mcmt.clock import SystemClock
from mcmt.config.settings import AddressSettings, IntakeSettings
from mcmt.errors import MessageError
from mcmt.intake.door import SessionLimits
from mcmt.workers.acceptor import Acceptor, Sink
from mcmt.workers.passing import Receiver, passing_pair


class Worker:
    """The far end of a passing pair."""

    def __init__(self) -> None:
        ours, theirs = passing_pair()
        self.sink = Sink(ours)
        self.taken: list[tuple[int, socket.socket, str, MessageError | None]] = []
        self.receiver = Receiver(theirs, lambda *one: self.taken.append(one))

    def die(self) -> None:
        self.receiver.close()
        for _, connected, _, _ in self.taken:
            connected.close()
        self.sink.end.close()


class Front:
    """An acceptor on two addresses and its clients."""

    def __init__(self, limit: int = 6) -> None:
        intake = IntakeSettings(max_connections=limit)
        listen = [AddressSettings("127.0.0.1", 0, "listen", "SMTP")] * 2
        self.acceptor = Acceptor(listen, SessionLimits(intake, SystemClock()), SystemClock())
        self.acceptor.open()
        self.clients: list[socket.socket] = []

    def connect(self, count: int = 1, number: int = 0) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(self.acceptor.listening[number][1:], timeout=5))


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    yield front
    front.acceptor.close()
    for client in front.clients:
        client.close()


async def until(*workers: Worker, count: int) -> None:
    async with asyncio.timeout(5):
        while sum(len(worker.taken) for worker in workers) < count:
            await asyncio.sleep(0.005)


async def test_the_worker_with_the_fewest_sessions_gets_the_next(front: Front) -> None:
    first, second = Worker(), Worker()
    front.acceptor.add(first.sink)
    front.connect(3)
    await until(first, count=3)
    front.acceptor.add(second.sink)
    front.connect(3, number=1)
    await until(first, second, count=6)
    assert (len(first.taken), len(second.taken)) == (3, 3)
    assert [number for number, _, _, _ in second.taken] == [1, 1, 1]
    assert front.acceptor.sessions == 6
    first.die()
    second.die()


async def test_one_too_many_is_passed_on_with_its_refusal_and_not_counted(front: Front) -> None:
    worker = Worker()
    front.acceptor.add(worker.sink)
    front.connect(7)
    await until(worker, count=7)
    refusals = [refusal for _, _, _, refusal in worker.taken if refusal is not None]
    assert [(refusal.code, refusal.enhanced) for refusal in refusals] == [(421, "4.3.2")]
    assert front.acceptor.sessions == 6
    front.acceptor.left(worker.sink, "127.0.0.1")
    assert front.acceptor.sessions == 5
    worker.die()


async def test_while_there_is_no_worker_clients_wait_and_are_not_turned_away(front: Front) -> None:
    front.connect(2)
    dead, worker = Worker(), Worker()
    front.acceptor.add(dead.sink)
    await until(dead, count=2)
    dead.die()
    front.acceptor.remove(dead.sink)
    assert front.acceptor.sessions == 0, "the sessions of a dead worker are gone"
    front.connect(2)
    await asyncio.sleep(0.05)
    front.acceptor.add(worker.sink)
    await until(worker, count=2)
    assert front.acceptor.sessions == 2
    worker.die()


async def test_what_a_dead_worker_says_late_is_not_counted(front: Front) -> None:
    worker = Worker()
    front.acceptor.add(worker.sink)
    front.connect(2)
    await until(worker, count=2)
    front.acceptor.remove(worker.sink)
    front.acceptor.left(worker.sink, "127.0.0.1")
    assert front.acceptor.sessions == 0
    worker.die()


async def test_what_comes_through_a_proxy_counts_for_whom_it_tells_of(front: Front) -> None:
    worker = Worker()
    front.acceptor.reload(
        [AddressSettings("127.0.0.1", 0, "listen", "SMTP", (ip_network("127.0.0.0/8"),)), *front.acceptor._listen[1:]]
    )
    front.acceptor._limits.settings = IntakeSettings(max_connections_per_address=2)
    front.acceptor.add(worker.sink)
    front.connect(5)
    await until(worker, count=5)
    assert [(address, refusal) for _, _, address, refusal in worker.taken] == [("", None)] * 5
    assert front.acceptor.move(worker.sink, "", "192.0.2.7") is None
    assert front.acceptor.move(worker.sink, "", "192.0.2.7") is None
    refusal = front.acceptor.move(worker.sink, "", "192.0.2.7")
    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (421, "4.7.0")
    front.acceptor.left(worker.sink, "192.0.2.7")
    assert front.acceptor.move(worker.sink, "", "192.0.2.7") is None
    assert front.acceptor.sessions == 4
    front.connect(3, number=1)
    await until(worker, count=8)
    assert [refusal is None for _, _, _, refusal in worker.taken[5:]] == [True, True, False]
    front.acceptor.remove(worker.sink)
    assert front.acceptor.sessions == 0
    assert front.acceptor._limits._per_address == {}
    worker.die()
