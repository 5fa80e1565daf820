"""Every tube that this process takes from, and when it connects again.

Rules: a server that is away, or comes and goes, is connected to again for as long as the engine runs, later each time;
a connection begins when nothing of the one before is on its way to the disk, and what is known of jobs was read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

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

    def start(self) -> None:
        """Begin to take jobs."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._where)

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

    async def _run(self) -> None:
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
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """*share*: which process of how many this is. The tubes are dealt out in turn."""
        number, processes = share
        tubes = [(server, tube) for server in settings for tube in server.tubes]
        self._sources = [
            TubeSource(server, Keeping(server, tube, reception, keeper, clock), memory, clock, random_bits)
            for place, (server, tube) in enumerate(tubes)
            if place % processes == number
        ]

    def start(self) -> None:
        """Begin to take jobs."""
        for source in self._sources:
            source.start()

    @property
    def status(self) -> Sequence[SourceStatus]:
        """How each tube fares."""
        return [source.status for source in self._sources]

    async def drain(self, limit: float) -> None:
        """Reserve nothing more, and finish within *limit* seconds."""
        await asyncio.gather(*(source.drain(limit) for source in self._sources))
