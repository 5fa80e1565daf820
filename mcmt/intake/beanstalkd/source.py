"""Every tube that this process takes from, and when it connects again.

A tube that is added by a reload has a source from then on; one that is gone, or changed, is left first: nothing more is
reserved, and what is ours is given away. Tubes of the start stay with the process that they were dealt to.

Rules: a server that is away, or comes and goes, is connected to again for as long as the engine runs, later each time;
a connection begins when nothing of the one before is on its way to the disk, and what is known of jobs was read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

from msgspec.structs import replace

from mcmt.clock import Clock
from mcmt.config.settings import BeanstalkdSettings
from mcmt.errors import SpoolError
from mcmt.intake import limits
from mcmt.intake.beanstalkd.connection import Shared, TubeConnection
from mcmt.intake.beanstalkd.keeping import PROTOCOL, Keeping
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.reminder import Reminder
from mcmt.intake.sources import SourceStatus
from mcmt.spool.standing import JobKeeper

log = logging.getLogger(__name__)

_CHANCE = 16
"""Bits of the part of a back-off that chance takes."""


class TubeSource:
    """One tube."""

    def __init__(
        self,
        settings: BeanstalkdSettings,
        keeping: Keeping,
        memory: IntakeMemory,
        clock: Clock,
        random_bits: Callable[[int], int],
    ) -> None:
        self._settings = settings
        self._keeping = keeping
        self._shared = Shared(clock, memory, settings.max_message_size)
        self._clock = clock
        self._random_bits = random_bits
        self._where = f"beanstalkd {settings.address}, tube {keeping.tube}"
        self._connection: TubeConnection | None = None
        self._told = Reminder(clock)
        self._reason = ""
        self._state = "connecting"
        self._begins = False
        """Nothing is ours yet, whatever it waits for."""
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, before: asyncio.Task[None] | None = None) -> None:
        """Begin to take jobs. *before*: when that is done."""
        self._task = asyncio.get_running_loop().create_task(self._run(before), name=self._where)

    def follow(self, other: TubeSource) -> None:
        """Count on from where *other*, of the same tube, is."""
        theirs = other._keeping
        self._keeping.taken += theirs.taken
        self._keeping.repeated += theirs.repeated
        self._keeping.buried += theirs.buried

    async def drain(self, limit: float) -> None:
        """Reserve nothing more; return when nothing is ours, or after *limit* seconds."""
        self._stopping.set()
        if self._connection is not None:
            self._connection.drain()
        if self._task is None:
            return
        if self._begins:
            self._task.cancel()
        done, _ = await asyncio.wait((self._task,), timeout=limit)
        if not done:
            if self._connection is not None:
                self._connection.abort("the engine stops")
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def status(self) -> SourceStatus:
        """How it fares."""
        keeping, connection = self._keeping, self._connection
        connected = connection is not None and connection.watching
        state, reason = ("connected", "") if connected else (self._state, self._reason)
        if connected and keeping.pause:
            state, reason = "holding", keeping.reason
        return SourceStatus(
            kind=PROTOCOL,
            address=self._settings.address,
            name=keeping.tube,
            domain=keeping.domain,
            state=state,
            reason=reason,
            reserved=0 if connection is None else connection.reserved,
            taken=keeping.taken,
            repeated=keeping.repeated,
            buried=keeping.buried,
        )

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            self._begins = True
            await asyncio.wait((before,))
            self._begins = False
        back_off = limits.SOURCE_BACK_OFF
        while not self._stopping.is_set():
            self._state = "connecting"
            try:
                served = await self._serve()
            except (OSError, SpoolError) as error:
                served = False
                self._reason = str(error) or type(error).__name__
            except Exception:
                log.exception("%s: a fault of ours", self._where)
                served, self._reason = False, "a fault of ours"
            if self._stopping.is_set():
                return
            self._state = "waiting"
            back_off = limits.SOURCE_BACK_OFF if served else min(2 * back_off, limits.SOURCE_MAX_BACK_OFF)
            if times := self._told.count():
                more = f" ({times} times since the last word)" if times > 1 else ""
                log.warning("%s: %s; trying again%s", self._where, self._reason, more)
            # By chance, so that the tubes of all workers do not come back in one moment.
            await self._pause(back_off * (1 - self._random_bits(_CHANCE) / 2 ** (_CHANCE + 1)))

    async def _serve(self) -> bool:
        """One connection, to its end; whether it got as far as to jobs. Raises OSError, SpoolError."""
        self._begins = True
        try:
            connection = await self._connect()
        finally:
            self._begins = False
        self._connection = connection
        if self._stopping.is_set():
            connection.drain()
        try:
            self._reason = await connection.ended
        finally:
            self._connection = None
            # A job that comes again over the next connection must not be on its way to the disk by this one.
            await connection.settled()
        return connection.watching

    async def _connect(self) -> TubeConnection:
        await self._keeping.load()
        loop = asyncio.get_running_loop()
        name = f"{self._random_bits(64):016x}"
        try:
            async with asyncio.timeout(limits.SOURCE_CONNECT):
                _, connection = await loop.create_connection(
                    lambda: TubeConnection(self._keeping, self._shared, loop, name),
                    self._settings.host,
                    self._settings.port,
                )
        except TimeoutError:
            raise OSError(f"no connection within {limits.SOURCE_CONNECT:g} seconds") from None
        return connection

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        waits = [asyncio.ensure_future(event.wait()) for event in (over, self._stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        for wait in waits:
            wait.cancel()


class Deal(NamedTuple):
    """Which of the tubes are whose."""

    process: int = 0
    processes: int = 1
    first: tuple[tuple[str, str], ...] = ()
    """Address and tube of those that the engine was started with: they are dealt out in turn, and stay where they are
    for as long as it runs, since what is known of their jobs is in that process' shard."""

    def mine(self, address: str, tube: str) -> bool:
        """Whether it is this process'."""
        try:
            place = self.first.index((address, tube))
        except ValueError:
            # Every process has to come to the same answer, whenever it was started.
            place = crc32(f"{address} {tube}".encode())
        return place % self.processes == self.process


def tubes_of(settings: Sequence[BeanstalkdSettings]) -> tuple[tuple[str, str], ...]:
    """Address and name of each."""
    return tuple((server.address, tube) for server in settings for tube in server.tubes)


class BeanstalkdSources:
    """The tubes of one process."""

    def __init__(
        self,
        settings: Sequence[BeanstalkdSettings],
        reception: Reception,
        keeper: JobKeeper,
        memory: IntakeMemory,
        clock: Clock,
        random_bits: Callable[[int], int],
        deal: Deal | None = None,
    ) -> None:
        """*deal*: without it, every tube is ours."""
        self._reception = reception
        self._keeper = keeper
        self._memory = memory
        self._clock = clock
        self._random_bits = random_bits
        self._deal = deal or Deal(first=tubes_of(settings))
        self._sources: dict[tuple[str, str], tuple[BeanstalkdSettings, TubeSource]] = {}
        self._leaving: dict[tuple[str, str], asyncio.Task[None]] = {}
        for key, server in self._mine(settings).items():
            self._sources[key] = server, self._source(server, key[1])

    def start(self) -> None:
        """Begin to take jobs."""
        for _, source in self._sources.values():
            source.start()

    def reload(self, settings: Sequence[BeanstalkdSettings], limit: float) -> None:
        """Go on by other settings: what is gone or changed is left within *limit* seconds, what is new begun."""
        wanted = self._mine(settings)
        for key, (server, source) in tuple(self._sources.items()):
            now = wanted.pop(key, None)
            if now is not None and _as_of(now, key[1]) == _as_of(server, key[1]):
                continue
            self._leave(key, source, limit)
            del self._sources[key]
            if now is not None:
                follower = self._source(now, key[1])
                follower.follow(source)
                follower.start(self._leaving[key])
                self._sources[key] = now, follower
        for key, server in wanted.items():
            source = self._source(server, key[1])
            source.start(self._leaving.get(key))
            self._sources[key] = server, source

    @property
    def status(self) -> Sequence[SourceStatus]:
        """How each tube fares."""
        return [source.status for _, source in self._sources.values()]

    async def drain(self, limit: float) -> None:
        """Reserve nothing more, and finish within *limit* seconds."""
        await asyncio.gather(*(source.drain(limit) for _, source in self._sources.values()), *self._leaving.values())

    def _leave(self, key: tuple[str, str], source: TubeSource, limit: float) -> None:
        before = self._leaving.get(key)

        async def leave() -> None:
            await source.drain(limit)
            if before is not None:
                await asyncio.wait((before,))

        def left(task: asyncio.Task[None]) -> None:
            if self._leaving.get(key) is task:
                del self._leaving[key]

        task = self._leaving[key] = asyncio.get_running_loop().create_task(leave(), name="tube left")
        task.add_done_callback(left)

    def _mine(self, settings: Sequence[BeanstalkdSettings]) -> dict[tuple[str, str], BeanstalkdSettings]:
        return {
            (server.address, tube): server
            for server in settings
            for tube in server.tubes
            if self._deal.mine(server.address, tube)
        }

    def _source(self, server: BeanstalkdSettings, tube: str) -> TubeSource:
        keeping = Keeping(server, tube, self._reception, self._keeper, self._clock)
        return TubeSource(server, keeping, self._memory, self._clock, self._random_bits)


def _as_of(server: BeanstalkdSettings, tube: str) -> BeanstalkdSettings:
    """All of the settings that concern *tube*."""
    return replace(server, tubes={tube: server.tubes[tube]})
