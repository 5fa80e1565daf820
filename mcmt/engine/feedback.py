"""Asks the feedback services of domains which tokens are gone: one reader of each in the machine, in the first shard.

A token that is told is an event, as one that a push was answered by; what the table of gone tokens has already, with
the same time or a later one, is none. When a service was read last is remembered over restarts.

Rules: a token is on disk before its service can know that it was read. A reading that fails is told and tried again,
after FIRST_WAIT and then ever later, but no later than the next one would be due; what it brought until then stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from mcmt.channel.port import Channel, Feedback, State, feedback_of
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.engine.retry import retry_delay
from mcmt.engine.verdict import storable
from mcmt.errors import ChannelError, SpoolError
from mcmt.message.event import GONE, SOURCE_FEEDBACK, Event, Kind
from mcmt.spool.port import GoneTokens, Keeper

log = logging.getLogger(__name__)

FIRST_WAIT = 60.0
"""Seconds until a reading that failed is tried again; doubled with each further failure."""
LONGEST_WAIT = 3600.0
START_WAIT = 1.0
"""Seconds from the start to the first reading: what was told before a crash is in the table of gone tokens by then."""
_NEWS = "feedback"


class Reader:
    """Of one domain's service."""

    def __init__(
        self,
        domain: str,
        channel: str,
        feedback: Feedback,
        keeper: Keeper,
        tokens: GoneTokens,
        state: State,
        clock: Clock,
        draw: Callable[[], float],
    ) -> None:
        """*state*: remembers when; *draw*: randomness for waits."""
        self._domain = domain
        self._channel = channel
        self._feedback = feedback
        self._keeper = keeper
        self._tokens = tokens
        self._state = state
        self._clock = clock
        self._draw = draw
        self._told = 0
        self._new = 0

    async def run(self) -> None:
        """Read whenever it is due, until cancelled."""
        wait = max(START_WAIT, await self._until_due())
        failures = 0
        while True:
            await self._sleep(wait)
            failures = 0 if await self._read() else failures + 1
            wait = self._feedback.interval
            if failures:
                wait = min(wait, retry_delay(failures, FIRST_WAIT, LONGEST_WAIT, self._draw))

    async def _until_due(self) -> float:
        try:
            known = await asyncio.to_thread(self._state.get, self._domain)
            since = self._clock.time() - float(known or 0)
        except (SpoolError, ValueError):
            return 0.0
        # A clock that was set back must not put the next reading off.
        return max(0.0, self._feedback.interval - since) if since >= 0 else 0.0

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    async def _read(self) -> bool:
        """Whether the service was read to its end."""
        self._told = self._new = 0
        try:
            await self._feedback.read(self._take)
        except (ChannelError, SpoolError) as error:
            text = f"could not be read: {error}; it is tried again"
            log.error("%s: the feedback service %s %s", self._domain, self._feedback.place, text)
        except Exception as error:  # a channel's bug must not end the readings
            log.exception("%s: the feedback service %s could not be read", self._domain, self._feedback.place)
            text = f"could not be read: internal error: {error!r}"
        else:
            await self._note(f"told {self._told} device tokens, {self._new} of them not known to be gone")
            await self._remember()
            return True
        await self._note(text)
        return False

    async def _take(self, told: Sequence[tuple[str, float]]) -> None:
        known = await asyncio.to_thread(self._tokens.since, self._domain, [token for token, _ in told])
        now = self._clock.time()
        new = {token: since for token, since in told if known.get(token, -1.0) < since}
        self._told += len(told)
        self._new += len(new)
        await self._keeper.record(
            [
                Event(
                    kind=Kind.TOKEN,
                    time=now,
                    channel=self._channel,
                    domain=self._domain,
                    token=token,
                    phase=GONE,
                    protocol=SOURCE_FEEDBACK,
                    gone_since=since,
                )
                for token, since in new.items()
            ]
        )

    async def _note(self, text: str) -> None:
        event = Event(
            kind=Kind.ROUTE,
            time=self._clock.time(),
            channel=self._channel,
            domain=self._domain,
            phase=_NEWS,
            text=storable(f"{self._feedback.place}: {text}"),
        )
        try:
            await self._keeper.record([event])
        except SpoolError as error:
            log.error("%s: not in the main log: %s: %s", self._domain, event.text, error)

    async def _remember(self) -> None:
        try:
            await asyncio.to_thread(self._state.put, self._domain, str(self._clock.time()).encode())
        except SpoolError as error:
            log.error("%s: the feedback service will be read again after a restart: %s", self._domain, error)


class Readers:
    """Of all domains that have such a service, from ``start`` to ``stop``."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        keeper: Keeper,
        tokens: GoneTokens,
        state: State,
        clock: Clock,
        draw: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._reader: Callable[[str, str, Feedback], Reader] = lambda domain, channel, feedback: Reader(
            domain, channel, feedback, keeper, tokens, state, clock, draw
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to read what is due."""
        loop = asyncio.get_running_loop()
        for domain in self._settings.domains.values():
            channel = domain.delivery_method
            if (feedback := feedback_of(self._channels[channel], domain.options)) is not None:
                reader = self._reader(domain.name, channel, feedback)
                self._tasks.append(loop.create_task(reader.run(), name="feedback"))

    async def reload(self, settings: Settings) -> None:
        """Read the services of other settings from now on; when each was read last is remembered."""
        if settings.domains != self._settings.domains:
            await self.stop()
            self._settings = settings
            self.start()

    async def stop(self) -> None:
        """Read no more; a reading that is under way is given up, and its service has its list still."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
