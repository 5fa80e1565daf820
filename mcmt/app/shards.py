"""The shards that a process serves, each with an engine of its own.

Its own shard takes what its listener accepts. Others are adopted: shards of workers that the configuration does not
have any more. Nothing new goes into them; when one has become empty it is closed and its file removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mcmt.app.closing import Closing
from mcmt.channel.port import Channel
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.station import LocalStation
from mcmt.engine.engine import Engine
from mcmt.engine.lender import Lending
from mcmt.engine.news import News, Tell, tell_nobody
from mcmt.engine.rulings import Shaping
from mcmt.engine.throttles import Granting
from mcmt.errors import SpoolError
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.shard_files import remove_shard
from mcmt.spool.sqlite import SqliteSpool
from mcmt.spool.standing import Known, Once, Standing
from mcmt.spool.state import StateStore
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between two looks at whether an adopted shard is empty."""

AskForKey = Callable[[str], Awaitable[Known | None]]
"""The message that was accepted under a key by another process. Raises SpoolError: not all could be asked."""
Retire = Callable[[int], Awaitable[None]]
"""Told the number of a shard that is empty, before it is closed and its file removed."""


class Shard(NamedTuple):
    """One shard file and the engine that serves it."""

    number: int
    spool: SqliteSpool
    engine: Engine
    station: LocalStation


class Shards:
    """The shards of this process, its own first."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        state: StateStore,
        lending: Callable[[int], Lending],
        granting: Callable[[int], Granting],
        clock: Clock,
        draw: Callable[[], float],
        tell: Tell = tell_nobody,
        begin_again: Callable[[], None] = lambda: None,
        tracing: Tracing | None = None,
        shaping: Callable[[int], Shaping] | None = None,
    ) -> None:
        """*lending*: who lends connections to the engine of a shard, *granting*: who
        grants it permits, *shaping*: who counts for it what rules match. *tell*: the engines of other processes.
        *begin_again*: ends this process at once and starts it again, which loses no more than any kill does: the way to
        open a shard anew that has damaged pages."""
        self._begin_again = begin_again
        self._tell = tell
        self._settings = settings
        self._channels = channels
        self._state = state
        self._lending = lending
        self._granting = granting
        self._shaping = shaping
        self._clock = clock
        self._draw = draw
        self.tracing = tracing or Tracing(clock)
        self._closing: dict[int, Closing] = {}
        self._watching: asyncio.Task[None] | None = None
        self.all: list[Shard] = []
        self.rehashed = 0.0
        """Keys that came before may be in any shard (rehash.py)."""
        self.ask_for_key: AskForKey = _nobody

    @property
    def own(self) -> Shard:
        """The one that takes what is accepted here."""
        return self.all[0]

    async def open(self, number: int) -> Shard:
        """Open a shard and an engine on it, which does not run yet. Raises SpoolError."""
        settings, clock = self._settings, self._clock
        spool = await SqliteSpool.open(settings.spool.path, clock, settings.spool.min_free, number, locked=True)
        spool.tracker.retention = settings.http.status_retention
        spool.on_damage(partial(self._damaged, number))
        self._closing[number] = Closing()
        self._closing[number].add(spool.close)
        engine = Engine(
            settings,
            spool,
            self._channels,
            self._state.scope,
            clock,
            self._draw,
            lender=self._lending(number),
            granting=self._granting(number),
            tell=lambda news: self._pass_on(number, news),
            tracing=self.tracing,
            shaping=self._shaping(number) if self._shaping else None,
        )
        station = LocalStation(settings, spool, engine, clock, number, self.tracing)
        shard = Shard(number, spool, engine, station)
        self.all.append(shard)
        return shard

    def _damaged(self, number: int) -> None:
        log.error("shard %d has damaged pages: this process begins again, and salvages it", number)
        self._begin_again()

    async def run(self, retire: Retire) -> None:
        """Have every engine begin, and retire adopted shards when they are empty."""
        for shard in self.all:
            await shard.engine.start()
            self._closing[shard.number].add(lambda shard=shard: shard.engine.drain(self._settings.drain_timeout))  # type: ignore[misc]
        if len(self.all) > 1:
            self._watching = asyncio.get_running_loop().create_task(self._watch(retire), name="adopted shards")

    # -- mcmt.spool.standing.Tracker --------------------------------------------------------------------------------

    async def accept_once(
        self,
        once: Once,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> Known:
        """See Tracker: into the own shard."""
        # Nobody else takes this key any more: what is not found now does not come while the own shard takes it.
        if self._clock.time() < self.rehashed + self._settings.http.status_retention:
            found = await self.known_by_key(once.key) or await self.ask_for_key(once.key)
            if found is not None:
                return found
        return await self.own.spool.tracker.accept_once(once, message, deliveries, events, failures)

    async def known_by_key(self, key: str) -> Known | None:
        """The message that was accepted under *key* into any shard of this process."""
        for shard in tuple(self.all):  # one may be retired meanwhile
            if (found := await shard.spool.tracker.known_by_key(key)) is not None:
                return found
        return None

    async def standing(self, batch_id: str, after: int, limit: int) -> Standing | None:
        """See Tracker: whichever shard has it."""
        for shard in tuple(self.all):
            if (found := await shard.spool.tracker.standing(batch_id, after, limit)) is not None:
                return found
        return None

    # -- the rest -----------------------------------------------------------------------------------------------------

    def reload(self, settings: Settings) -> None:
        """Have every engine go on by other settings."""
        self._settings = settings
        for shard in self.all:
            shard.spool.tracker.retention = settings.http.status_retention
            shard.engine.reload(settings)
            shard.station.reload(settings)

    def heard(self, news: News) -> None:
        """What an engine of another process has learned."""
        for shard in self.all:
            shard.engine.heard(news)

    def _pass_on(self, number: int, news: News) -> None:
        self._tell(news)
        for shard in self.all:
            if shard.number != number:
                shard.engine.heard(news)

    async def drain(self) -> None:
        """Send nothing more, wait for what is on the wire, write what became of it; the spools stay open."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.gather(*(shard.engine.drain(self._settings.drain_timeout) for shard in self.all))

    async def close(self) -> None:
        """Let go of every shard."""
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*(closing.close() for closing in self._closing.values()))
        self.all.clear()

    async def _watch(self, retire: Retire) -> None:
        while len(self.all) > 1:
            await asyncio.sleep(LOOK)
            for shard in self.all[1:]:
                try:
                    if shard.engine.resident or not await shard.spool.is_empty():
                        continue
                    await self._retire(shard, retire)
                except (SpoolError, OSError) as error:
                    log.error("shard %d is empty and cannot be removed: %s", shard.number, error)

    async def _retire(self, shard: Shard, retire: Retire) -> None:
        await shard.engine.drain(0.0)
        await retire(shard.number)
        self.all.remove(shard)
        await self._closing.pop(shard.number).close()
        await asyncio.to_thread(remove_shard, self._settings.spool.path, shard.number)
        log.info("shard %d, left over from more workers, is empty now and removed", shard.number)


async def _nobody(key: str) -> None:
    """AskForKey."""


def adopted(numbers: Sequence[int], worker: int, workers: int) -> list[int]:
    """Of the shards that a spool folder has, those that *worker* adopts."""
    return [number for number in numbers if number >= workers and number % workers == worker]
