"""``mcmt.spool.standing.Tracker`` for the doors of a worker.

Every key belongs to one worker, whichever is asked: that one decides, with its own shard's transaction, whether the
key's message is there. So there is no moment in which two could keep it, nor one in which a crash leaves a key without
its message. While that worker is being started its keys are told to come again. A message is looked for in all shards,
and so is a key while there may be some that belonged to another worker (mcmt/app/rehash.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from mcmt.errors import BusError, SpoolError
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.standing import Known, Once, Standing, Tracker
from mcmt.workers.bus import Bus
from mcmt.workers.words import (
    Accept,
    AcceptOnce,
    AskAll,
    FindKey,
    FindStanding,
    HandOver,
    MaybeKnown,
    MaybeStanding,
    raw,
)


class WorkersTracker:
    """The tracker of all workers, as one of them has it."""

    def __init__(self, own: Tracker, number: int, workers: int, bus: Bus) -> None:
        self._own = own
        self._number = number
        self._workers = workers
        self._bus = bus

    async def accept_once(
        self,
        once: Once,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> Known:
        """See Tracker."""
        owner = zlib.crc32(once.key.encode()) % self._workers
        if owner == self._number:
            return await self._own.accept_once(once, message, deliveries, events, failures)
        body = raw(AcceptOnce(once, Accept(message, tuple(deliveries), tuple(events), tuple(failures))))
        try:
            return await self._bus.call(HandOver(owner, body), Known)
        except BusError as error:
            raise SpoolError(f"worker {owner} was asked to keep a message and did not answer: {error}") from error

    async def standing(self, batch_id: str, after: int, limit: int) -> Standing | None:
        """See Tracker."""
        try:
            return (await self._bus.call(AskAll(FindStanding(batch_id, after, limit)), MaybeStanding)).found
        except BusError as error:
            raise SpoolError(f"the workers could not be asked: {error}") from error


async def ask_for_key(bus: Bus, key: str) -> Known | None:
    """The message that was accepted under *key*, into whichever shard. Raises SpoolError: not all could be asked."""
    try:
        return (await bus.call(AskAll(FindKey(key)), MaybeKnown)).found
    except BusError as error:
        raise SpoolError(f"the workers could not be asked: {error}") from error
