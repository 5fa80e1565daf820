"""The source in this process, a keeper of jobs in memory, a beanstalkd, and a server that says what it is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from mcmt.channel import plugins
from mcmt.clock import Clock, SystemClock
from mcmt.config.settings import BeanstalkdSettings, IntakeSettings
from mcmt.errors import SpoolError
from mcmt.intake.beanstalkd.source import Deal, tubes_of
from mcmt.intake.doors import Doors
from mcmt.intake.sources import SourceStatus
from mcmt.spool.standing import Keyed, Once
from tests.support.beanstalkd import Beanstalkd, beanstalkd
from tests.unit.intake.server import ListSpool, make_settings

TUBE = "com.example.app"


class ListJobs:
    """``JobKeeper`` in memory; can be told to fail, or to wait."""

    def __init__(self) -> None:
        self.accepted: list[Keyed] = []
        self.known: dict[Once, float] = {}
        self.failure: SpoolError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.asked = 0
        """Messages that it was given, kept or not."""

    async def accept_each(self, given: Sequence[Keyed]) -> Sequence[SpoolError | None]:
        self.asked += len(given)
        self.waiting.set()
        await self.gate.wait()
        if self.failure is not None:
            return [self.failure] * len(given)
        for one in given:
            assert one.once.key not in {once.key for once in self.known}
            self.known[one.once] = one.message.received
        self.accepted += given
        return [None] * len(given)

    async def keys(self, prefix: str) -> Mapping[Once, float]:
        return {once: since for once, since in self.known.items() if once.key.startswith(prefix)}

    def forget(self, keys: Sequence[str]) -> None:
        self.known = {once: since for once, since in self.known.items() if once.key not in keys}

    @property
    def tokens(self) -> list[str]:
        """Of all that is kept, in order."""
        return [delivery.token for one in self.accepted for delivery in one.deliveries]


class Source:
    """One process's doors that have nothing but this source."""

    def __init__(self, doors: Doors, spool: ListSpool, jobs: ListJobs) -> None:
        self.doors = doors
        self.spool = spool
        self.jobs = jobs

    @property
    def status(self) -> SourceStatus:
        (status,) = self.doors.sources
        return status

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when *condition* holds; it is looked at on a thread, for it may ask the server."""
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(condition):
                await asyncio.sleep(0.01)  # what another process has done has no event here


Start = Callable[..., Awaitable[Source]]


@pytest.fixture
def server() -> Iterator[Beanstalkd]:
    """A beanstalkd, with nothing in it."""
    with beanstalkd() as running:
        yield running


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Take jobs of a port; every source is drained at the end."""
    started: list[Source] = []

    async def begin(
        port: int,
        jobs: ListJobs | None = None,
        clock: Clock | None = None,
        share: tuple[int, int] = (0, 1),
        intake: IntakeSettings | None = None,
        **options: Any,
    ) -> Source:
        options = {"tubes": {TUBE: "apn.example.com"}, "return_path": "push@example.com", **options}
        settings = BeanstalkdSettings(address=f"127.0.0.1:{port}", host="127.0.0.1", port=port, **options)
        spool, jobs = ListSpool(), jobs or ListJobs()
        doors = Doors(
            make_settings(beanstalkd=(settings,), intake=intake or IntakeSettings()),
            {"apn": plugins.load("apn"), "discard": plugins.load("discard")},
            spool,
            clock or SystemClock(),
            secrets.randbits,
            jobs=jobs,
            deal=Deal(*share, tubes_of((settings,))),
        )
        await doors.start()
        started.append(Source(doors, spool, jobs))
        return started[-1]

    yield begin
    for source in started:
        source.jobs.gate.set()
        await source.doors.drain(0.1)
        # Tasks whose connection was cut off end with the gate.
        await source.until(lambda source=source: not source.doors.smtp.memory.held)  # type: ignore[misc]


class Script:
    """A server that hears lines and says octets, as a test tells it."""

    def __init__(self) -> None:
        self._connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def listen(self) -> asyncio.Server:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            self._connected.put_nowait((reader, writer))

        listening = await asyncio.start_server(take, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        return listening

    async def connected(self) -> None:
        """Go on with the next connection."""
        async with asyncio.timeout(20):
            self.reader, self.writer = await self._connected.get()

    async def hears(self, *lines: str) -> None:
        """Return when these have come, and nothing else."""
        for line in lines:
            async with asyncio.timeout(20):
                assert await self.reader.readline() == f"{line}\r\n".encode()

    def say(self, *lines: str) -> None:
        self.writer.write("".join([f"{line}\r\n" for line in lines]).encode())

    async def greets(self) -> None:
        """The beginning of every connection."""
        await self.connected()
        await self.hears(f"watch {TUBE}", "ignore default", "reserve-with-timeout 20")
        self.say("WATCHING 2", "WATCHING 1")

    async def ends(self) -> bytes:
        """What else came until the connection ended."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """A server that a test speaks for."""
    told = Script()
    listening = await told.listen()
    yield told
    listening.close()
    for writer in told.writers:
        writer.transport.abort()
    await asyncio.sleep(0)
