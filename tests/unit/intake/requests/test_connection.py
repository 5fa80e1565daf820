"""One client's connection, with a transport that does what a client makes of a socket."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import pytest

from mcmt.clock import SystemClock
from mcmt.config.settings import IntakeSettings
from mcmt.intake.door import SessionLimits, Sessions
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.requests.connection import RequestConnection, Station
from mcmt.intake.requests.door import Answer, Client
from mcmt.wire.http1 import Refusal, Request, Response
from mcmt.wire.trace import Tracing
from tests.support.manual_clock import ManualClock

IDLE = 60.0
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Door:
    idle_timeout = IDLE
    max_message_size = 1000
    protocol = "test"
    tracing = Tracing(SystemClock())

    async def answer(self, request: Request, client: Client) -> Answer:
        return Answer(Response(HTTPStatus.OK, b"x" * 1000, "text/plain"))

    def busy(self, text: str) -> Response:
        return Response(HTTPStatus.SERVICE_UNAVAILABLE, text.encode(), "text/plain")

    def refuse(self, refusal: Refusal) -> Response:
        return Response(refusal.status, refusal.text.encode(), "text/plain")


class Wire(asyncio.Transport):
    """A socket whose client reads nothing: every write is one too many."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.paused = self.aborted = self.closed = False
        self.protocol: RequestConnection | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 4711) if name == "peername" else default

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        assert self.protocol is not None
        self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        """Waits until all is written, which is never."""
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
        assert self.protocol is not None
        self.protocol.connection_lost(None)


def connect(clock: Any) -> tuple[RequestConnection, Wire, IntakeMemory]:
    memory = IntakeMemory(10_000_000)
    station = Station(Door(), clock, lambda bits: bits, Sessions(SessionLimits(IntakeSettings(), clock)), memory)
    connection, wire = RequestConnection(station, asyncio.get_running_loop()), Wire()
    wire.protocol = connection
    connection.connection_made(wire)
    return connection, wire, memory


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_who_does_not_read_answers_gets_no_further_ones_and_is_not_read() -> None:
    connection, wire, _ = connect(SystemClock())
    connection.data_received(REQUEST * 5000)
    await settled()
    assert len(wire.written) == 1
    connection.data_received(REQUEST * 5000)
    assert wire.paused
    connection.resume_writing()
    await settled()
    assert len(wire.written) == 2
    wire.abort()


async def test_who_never_reads_them_is_cut_off_and_gives_back_the_memory() -> None:
    clock = ManualClock()
    connection, wire, memory = connect(clock)
    connection.data_received(REQUEST * 5000)
    await settled()
    assert memory.held
    clock.advance(IDLE + 1)
    assert wire.aborted
    assert memory.held == 0


@pytest.mark.parametrize(
    "octets", [b"\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", b"x", REQUEST[:-2] + b"X: y\r\n"]
)
async def test_a_request_has_one_deadline_however_it_comes(octets: bytes) -> None:
    clock = ManualClock()
    connection, wire, _ = connect(clock)
    connection.data_received(octets)
    for _ in range(8):
        clock.advance(IDLE / 4)
        connection.data_received(b"\r\n" if octets == b"\r\n" else b"x")
    assert wire.closed or wire.aborted


async def test_who_has_read_all_is_asked_for_more() -> None:
    connection, wire, _ = connect(SystemClock())
    connection.data_received(REQUEST)
    await settled()
    connection.resume_writing()
    connection.data_received(REQUEST)
    await settled()
    assert len(wire.written) == 2
    assert not wire.paused
    wire.abort()


async def test_who_has_closed_his_side_gets_an_answer_when_he_reads() -> None:
    connection, wire, _ = connect(SystemClock())
    connection.data_received(REQUEST * 2)
    await settled()
    assert connection.eof_received()
    connection.resume_writing()
    await settled()
    assert [b"Connection: close" in answer for answer in wire.written] == [False, True]
    wire.abort()


@pytest.mark.parametrize("last", [b"", REQUEST[:5]])
async def test_a_stop_does_not_wait_for_who_does_not_read(last: bytes) -> None:
    connection, wire, memory = connect(SystemClock())
    connection.data_received(REQUEST + last)
    await settled()
    connection.abort()
    assert wire.aborted
    assert memory.held == 0
