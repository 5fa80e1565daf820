"""How much work it is to take a message: calls, writes to the transport, tasks and timers, counted and not timed.

Seconds differ from machine to machine and from run to run; these counts do not. A bound is what was counted when it
was written, and a few on top. What goes past it makes every message dearer, and should say what for.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec
import pytest

import channels.apn
import mcmt
from mcmt.clock import SystemClock, Timer
from mcmt.config.settings import DomainSettings
from mcmt.intake.connection import Connection
from mcmt.message.mime import parse
from tests.support.engine_process import mcmt_message
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import Client, Server, make_settings

OURS = tuple(f"{Path(file).parent}/" for file in (mcmt.__file__, str(Path(channels.apn.__file__).parent)))
CONTENT = mcmt_message(b'{"aps":{"alert":"hello","sound":"default"}}') + b".\r\n"
COMMANDS = (b"MAIL FROM:<app@example.com>\r\n", b"RCPT TO:<user@apn.example.com>\r\n", b"DATA\r\n")
ONE_BY_ONE = (*COMMANDS, CONTENT)
PIPELINED = (b"".join(COMMANDS), CONTENT)
"""RFC 2920: DATA is the last of a group, so the client waits before the content."""


class Calls:
    """Counts calls within mcmt and its channels: of Python functions, and of functions in C."""

    def __init__(self) -> None:
        self.python: Counter[str] = Counter()
        self.c = 0

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if frame.f_code.co_filename.startswith(OURS):
            if event == "call":
                self.python[frame.f_code.co_qualname] += 1
            elif event == "c_call":
                self.c += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is called meanwhile."""
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)


class CountingClock(SystemClock):
    """Counts the timers that are set."""

    def __init__(self) -> None:
        self.timers = 0

    def call_later(self, delay: float, callback: Any) -> Timer:
        self.timers += 1
        return super().call_later(delay, callback)


class CountingWire:
    """A transport that counts what is written to it, and passes it on."""

    def __init__(self, wire: asyncio.Transport) -> None:
        self._wire = wire
        self.writes = 0

    def write(self, octets: bytes) -> None:
        self.writes += 1
        self._wire.write(octets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


async def begin(serve: Serve, clock: SystemClock | None = None) -> tuple[Server, Client, CountingWire]:
    """A session that has taken a first message for the real apn channel, and the transport under it."""
    domain = DomainSettings(name="apn.example.com", delivery_method="apn", routes=(), options=channels.apn.Options())
    settings = msgspec.structs.replace(make_settings(), domains={domain.name: domain})
    server = await serve(clock=clock, settings=settings, channels={"apn": channels.apn})
    client = await server.hello()
    (session,) = server.listener._sessions
    wire = CountingWire(cast(Connection, session)._wire)
    cast(Any, session)._wire = wire
    await submit(client, PIPELINED)
    return server, client, wire


async def submit(client: Client, bursts: Sequence[bytes]) -> None:
    """One message, in *bursts* that each wait for all their answers; without a task of the client's."""
    async with asyncio.timeout(10):
        for burst in bursts:
            client.send(burst)
            for _ in range(1 if burst is CONTENT else burst.count(b"\r\n")):
                assert (await client.reader.readline())[:3] in (b"250", b"354")


@pytest.mark.parametrize(
    ("bursts", "python", "c"),
    # Counted: 102 and 191, 94 and 185; two of them since the header field MT-Priority is looked for. With a stream and
    # a coroutine between it was 122 and 209, without asyncio's own.
    [(ONE_BY_ONE, 104, 196), (PIPELINED, 96, 190)],
    ids=["one by one", "pipelined"],
)
async def test_the_calls_that_a_message_costs_stay_few(
    serve: Serve, bursts: Sequence[bytes], python: int, c: int
) -> None:
    server, client, _ = await begin(serve)
    calls = Calls()
    with calls.counted():
        for _ in range(1000):
            await submit(client, bursts)
    assert len(server.spool.accepted) == 1001
    assert calls.python.total() <= 1000 * python, calls.python.most_common()
    assert calls.c <= 1000 * c


@pytest.mark.parametrize(("bursts", "writes"), [(ONE_BY_ONE, 4), (PIPELINED, 2)], ids=["one by one", "pipelined"])
async def test_a_burst_is_answered_by_one_write_without_a_task_or_timer(
    serve: Serve, bursts: Sequence[bytes], writes: int
) -> None:
    clock = CountingClock()
    server, client, wire = await begin(serve, clock)
    made: list[object] = []

    def make_task(loop: asyncio.AbstractEventLoop, work: Any, **arguments: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **arguments)

    loop = asyncio.get_running_loop()
    wire.writes = clock.timers = 0
    loop.set_task_factory(cast(Any, make_task))
    try:
        for _ in range(10):
            await submit(client, bursts)
    finally:
        loop.set_task_factory(None)
    assert len(server.spool.accepted) == 11
    assert wire.writes == 10 * writes
    assert clock.timers == 0
    assert made == []


def test_ten_thousand_tokens_cost_no_more_calls_than_one() -> None:
    def calls_for(tokens: int) -> int:
        message = mcmt_message(b'{"aps":{}}', token=",\r\n ".join([f"{number:064x}" for number in range(tokens)]))
        calls = Calls()
        with calls.counted():
            (part,) = parse(message).parts
            reading = channels.apn.read(part, "user@apn.example.com", {}, channels.apn.Options())
        assert len(reading.targets) == tokens
        return calls.python.total() + calls.c

    assert calls_for(10_000) <= calls_for(1) + 20
