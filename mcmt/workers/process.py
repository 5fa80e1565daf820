"""One worker as its supervisor keeps it: started, watched, started again when it ends.

A worker that ends by itself is started again: at once if it lived for SOUND seconds, else after a wait that doubles
from FIRST_WAIT up to LONGEST_WAIT. It inherits the spool folder's lock, so that no second engine can begin while one
worker lives; it dies when its supervisor does.

One that lives and answers nothing, twice in PATIENCE, is killed: it holds connections, leases and the answers that
others wait for. Twice, because after a pause of the whole machine the time is over before anybody could answer.

Rules: the process is only ever ended by itself or by a signal; what it was asked and had not answered is BusLost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from mcmt.clock import Clock
from mcmt.config.sources import Content
from mcmt.errors import BusError, ControlError, McmtError
from mcmt.workers.bus import Bus
from mcmt.workers.life_words import Begin, Drain, Ping, Prepare, Stop, Swap
from mcmt.workers.passing import passing_pair
from mcmt.workers.words import Nothing, ToSupervisor

log = logging.getLogger(__name__)

SOUND = 10.0
"""Seconds after which a worker that ended is started again at once."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
PREPARE = 60.0
"""Seconds that a worker may take to read a configuration."""
PATIENCE = 30.0
"""Seconds that a worker's event loop may take for anything."""
ROUND = 10.0
"""Seconds between two looks at whether it is there."""
MARGIN = 10.0
"""Seconds beside ``drain_timeout`` after which a worker that does not end is killed."""


class Supervising(Protocol):
    """Who keeps workers."""

    async def answer(self, worker: Worker, request: object) -> object:
        """Answer a call of a worker."""

    def noticed(self, worker: Worker, notice: object) -> None:
        """Take a notice of a worker."""

    def began(self, worker: Worker) -> None:
        """It works."""

    def ended(self, worker: Worker) -> None:
        """It works no more."""


class Worker:
    """One worker, through all processes that it has been."""

    def __init__(self, begin: Begin, lock: int, supervising: Supervising, clock: Clock) -> None:
        """*lock*: the descriptor of the spool folder's lock."""
        self._clock = clock
        self._begin = begin
        self._lock = lock
        self._supervising = supervising
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False
        self.bus: Bus | None = None
        """While there is a process."""
        self.connections: socket.socket | None = None
        """Takes connections (passing.py), while it works."""
        self.missing = ""
        """Why it does not work."""
        self.restarts = 0
        """How often it was started again."""

    @property
    def number(self) -> int:
        """From 0."""
        return self._begin.number

    @property
    def shards(self) -> Sequence[int]:
        """The shards that it serves, its own first."""
        return (self._begin.number, *self._begin.adopted)

    @property
    def pid(self) -> int:
        """Of its process; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def reach(self) -> Bus | None:
        """The bus, while it works."""
        return None if self.missing else self.bus

    async def start(self) -> None:
        """Start it for the first time. Raises McmtError when it cannot begin."""
        self.missing = self._says("is being started")
        await self._launch()
        self._keeping = asyncio.get_running_loop().create_task(self._keep(), name=f"worker {self.number}")

    def retired(self, shard: int) -> None:
        """It serves that shard no more."""
        rest = tuple(number for number in self._begin.adopted if number != shard)
        self._begin = msgspec.structs.replace(self._begin, adopted=rest)

    async def prepare(self, content: Content) -> None:
        """Have it be ready to go on by a configuration that was read again. Raises ControlError."""
        bus = self.reach
        if bus is None:
            raise ControlError(f"{self.missing}: try again in a moment")
        try:
            async with asyncio.timeout(PREPARE):
                await bus.call(Prepare(content), Nothing)
        except TimeoutError:
            raise ControlError(self._says(f"was not ready within {PREPARE:g} s")) from None
        except McmtError as error:
            raise ControlError(self._says(f"cannot go on by it: {error}")) from error

    async def swap(self, content: Content) -> None:
        """Have it go on by what it prepared, and begin with it whenever it is started again."""
        self._begin = msgspec.structs.replace(self._begin, reloaded=content)
        process, bus = self._process, self.reach
        if bus is None:
            return
        try:
            async with asyncio.timeout(MARGIN):
                await bus.call(Swap(), Nothing)
        except (McmtError, TimeoutError) as error:
            # Started again, it begins by it.
            log.error("%s", self._says(f"did not go on by the new configuration, and is ended: {error!r}"))
            if process is not None and process.returncode is None:
                process.kill()

    async def drain(self, within: float) -> None:
        """Have it take and send nothing more, and write what it knows. It is not started again from now on."""
        self._stopping = True
        await self._ask(Drain(), within + MARGIN)

    async def stop(self) -> None:
        """Have it close its shards and end; kill it when it does not."""
        self._stopping = True
        process = self._process
        if await self._ask(Stop(), MARGIN) and process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MARGIN):
                    await process.wait()
        if process is not None and process.returncode is None:
            process.kill()
        if self._keeping is not None:
            if process is None:
                self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _ask(self, request: Drain | Stop, within: float) -> bool:
        if self.reach is None:
            return False
        try:
            async with asyncio.timeout(within):
                await self.reach.call(request, Nothing)
        except (BusError, TimeoutError) as error:
            log.error("worker %d did not %s in good order: %r", self.number, type(request).__name__.lower(), error)
            return False
        return True

    # -- its processes ------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """Start a process and have it begin. Raises McmtError; then there is none."""
        ours, theirs = socket.socketpair()
        passing, received = passing_pair()
        try:
            with theirs, received:
                self._process = await self._spawn(theirs.fileno(), received.fileno())
            self.bus = await Bus(ToSupervisor, self._answer, self._noticed, _ignore).open(ours)
            begin = self._begin
            await self.bus.call(begin, Nothing)
            if self._begin.reloaded is not None and self._begin.reloaded is not begin.reloaded:
                await self.bus.call(Prepare(self._begin.reloaded), Nothing)
                await self.bus.call(Swap(), Nothing)
        except BaseException:
            passing.close()
            if self.bus is None:
                ours.close()
            else:
                self.bus.close()
                self.bus = None
            if self._process is not None:
                if self._process.returncode is None:
                    self._process.kill()
                await self._process.wait()
                self._process = None
            # It may have worked on its shard already, and have been lent connections for it.
            self._supervising.ended(self)
            raise
        self.connections, self.missing = passing, ""
        self._supervising.began(self)

    async def _watch(self, process: asyncio.subprocess.Process, bus: Bus) -> None:
        """Kill it when it does not answer."""
        missed = 0
        while missed < 2:
            await asyncio.sleep(0.0 if missed else ROUND)
            try:
                async with asyncio.timeout(PATIENCE):
                    await bus.call(Ping(), Nothing)
            except TimeoutError:
                missed += 1
            except BusError:
                return  # it has ended
            else:
                missed = 0
        if process.returncode is None:
            log.error("worker %d has answered nothing for %g s and is killed", self.number, 2 * PATIENCE)
            process.kill()

    async def _spawn(self, bus: int, connections: int) -> asyncio.subprocess.Process:
        # -P and our own place: a folder called mcmt where the engine was started must not be taken for this package.
        ours = str(Path(__file__).parents[2])
        places = [ours, *(place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mcmt", "worker", "--number", str(self.number)),
            *("--bus", str(bus), "--connections", str(connections), "--supervisor", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(bus, connections, self._lock),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))},
        )

    async def _keep(self) -> None:
        """See it end, and start it again, until it is to stop."""
        began = self._clock.monotonic()
        wait = 0.0
        while True:
            if self._process is not None:
                assert self.bus is not None  # noqa: S101 - it was launched
                watch = asyncio.get_running_loop().create_task(self._watch(self._process, self.bus))
                try:
                    self._over(await self._process.wait())
                finally:
                    watch.cancel()
            if self._stopping:
                return
            sound = self._clock.monotonic() - began >= SOUND
            wait = 0.0 if sound else min(LONGEST_WAIT, wait * 2 or FIRST_WAIT)
            await asyncio.sleep(wait)
            began = self._clock.monotonic()
            try:
                await self._launch()
            except (McmtError, OSError) as error:
                self.missing = self._says(f"cannot begin: {error}")
                log.error("%s; it is tried again", self.missing)
            else:
                self.restarts += 1
                log.warning("worker %d works again, pid %d", self.number, self.pid)

    def _over(self, code: int) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self.bus is not None:
            self.bus.close()
            self.bus = None
        if self.connections is not None:
            self.connections.close()
        self._process = None
        if not self._stopping:
            log.error("worker %d was %s: it is started again; nothing that it accepted is lost", self.number, how)
            self.missing = self._says(f"was {how} and is being started again")
        self._supervising.ended(self)
        self.connections = None

    def _says(self, what: str) -> str:
        return f"worker {self.number} {what}"

    async def _answer(self, request: object) -> object:
        return await self._supervising.answer(self, request)

    def _noticed(self, notice: object) -> None:
        self._supervising.noticed(self, notice)


def _ignore() -> None:
    """The end of the process is what tells, not that of its bus."""
