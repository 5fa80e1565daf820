"""``mcmt.spool.standing.Tracker`` of one shard.

Rule: of two that come with one key at once, the second waits until the first is on disk or has failed. The table's own
constraint stands behind that: a key is never there twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mcmt.errors import SpoolError
from mcmt.message.event import TRACKED, Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.commits import LAZY_SECONDS
from mcmt.spool.jobs import Accept, Forget, SpoolJob
from mcmt.spool.listing import Listing
from mcmt.spool.port import Entry
from mcmt.spool.standing import Ended, Keyed, Known, Once, Standing
from mcmt.spool.tracking import Track


class ShardTracker:
    """Lives on the event loop."""

    def __init__(
        self,
        listing: Listing,
        ask: Callable[..., Awaitable[object]],
        has_room: Callable[[], Awaitable[None]],
        put: Callable[..., asyncio.Future[None]],
        require_space: Callable[[Message, Sequence[NewDelivery]], Awaitable[None]],
        mark: Callable[[int, Entry], Entry],
    ) -> None:
        """*ask*: calls a function of *listing* where it may be called. *has_room*: waits for room for a job.
        *put*: has a job done. *mark*: marks an entry that is out."""
        self._loop = asyncio.get_running_loop()
        self._listing = listing
        self._ask = ask
        self._has_room = has_room
        self._put = put
        self._require_space = require_space
        self._mark = mark
        self._busy: dict[str, asyncio.Event] = {}
        self.retention = 86400.0
        """Seconds that keys and ends are wanted."""

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
        once: Once | None = None,
    ) -> Track | None:
        """Keep a message; where its sender may ask about it, what is kept for that."""
        begun = await self._begin(message, deliveries, events, failures, once)
        if begun is None:
            return None
        await begun.future
        return begun.track

    async def _begin(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure],
        once: Once | None,
    ) -> SpoolJob | None:
        """What keeps it, on its way to the disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        if deliveries or failures:
            await self._require_space(message, deliveries)
            job: SpoolJob = Accept(future, message, deliveries, events, failures)
        elif events:
            job = SpoolJob(future, events)
        else:
            return None
        if once is not None or message.envelope.protocol in TRACKED:
            job.track = Track.of(message, deliveries, events, once, self.retention)
        await self._has_room()
        self._put(job)
        return job

    async def accept_each(self, given: Sequence[Keyed]) -> list[SpoolError | None]:
        """See JobKeeper. No task for each: a commit that 300 of them share is waited for once."""
        results: list[SpoolError | None] = []
        begun: dict[asyncio.Future[None], int] = {}
        try:
            for number, one in enumerate(given):
                job = await self._begin(one.message, one.deliveries, one.events, one.failures, one.once)
                results.append(None)
                if job is not None:
                    begun[job.future] = number
        except SpoolError as error:
            # What is behind it would meet the same.
            results += [error] * (len(given) - len(results))
        if begun:
            await asyncio.wait(begun)
        for future, number in begun.items():
            reason = future.exception()
            if reason is not None and not isinstance(reason, SpoolError):
                raise reason
            results[number] = reason
        return results

    async def keys(self, prefix: str) -> Mapping[Once, float]:
        """See JobKeeper."""
        found = await self._ask(self._listing.keys, prefix)
        assert isinstance(found, dict)  # noqa: S101 - as the listing answers
        return found

    def forget(self, keys: Sequence[str]) -> None:
        """See JobKeeper."""
        job = Forget(self._loop.create_future(), keys)
        # Nobody waits for it; a key that stays is known for a while longer.
        job.future.add_done_callback(asyncio.Future.exception)
        self._put(job, LAZY_SECONDS)

    async def accept_once(
        self,
        once: Once,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> Known:
        """See Tracker."""
        while (busy := self._busy.get(once.key)) is not None:
            await busy.wait()
        self._busy[once.key] = done = asyncio.Event()
        try:
            if (found := await self.known_by_key(once.key)) is not None:
                return found
            track = await self.accept(message, deliveries, events, failures, once)
            assert track is not None  # noqa: S101 - only such messages have keys
            return Known(track.batch_id, track.fingerprint, track.sender, track.deliveries, track.received)
        finally:
            del self._busy[once.key]
            done.set()

    async def known_by_key(self, key: str) -> Known | None:
        """The message that was accepted here under *key*."""
        found = await self._ask(self._listing.known_by_key, key)
        return found if isinstance(found, Known) else None

    async def standing(self, batch_id: str, after: int, limit: int) -> Standing | None:
        """See Tracker."""
        found = await self._ask(self._listing.standing, batch_id, after, limit)
        if found is None:
            return None
        known, pending, ended = _standing(found)
        numbers = {one.number for one in ended}
        left = [self._mark(row, entry) for row, entry in pending if _number(entry) not in numbers]
        return Standing(known, ended, left)


def _number(entry: Entry) -> int:
    return int(entry.id.rpartition("-")[2])


def _standing(found: object) -> tuple[Known, list[tuple[int, Entry]], list[Ended]]:
    assert isinstance(found, tuple)  # noqa: S101 - as the listing answers
    return found
