"""Which worker sends for a domain that may have fewer connections than there are workers.

One of them owns such a stanza, so that its connections stay open instead of going round: what another worker receives
for it is handed over before the 250, if the owner can be reached. That is for speed alone: the limit is kept by the
lender (mcmt/engine/lender.py), and a delivery that stays where it came in is sent from there when its turn comes. A
message for stanzas of several owners stays whole where it came in.

A stanza with ``replace_queued`` has an owner too, whatever connections it may have: what a message replaces is looked
for in the shard that keeps it.

Rules: a message is kept by exactly one shard; when an owner was asked and did not answer, nobody knows whether it has
kept it, so nobody else does, and the client is told to come again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Sequence

from mcmt.config.settings import Settings
from mcmt.errors import BusError, OutboxAway, SpoolError
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.port import Keeper
from mcmt.workers.bus import Bus
from mcmt.workers.words import Accept, HandOver, Nothing, raw

log = logging.getLogger(__name__)


class Owners:
    """The owner of every stanza that has one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_stanza = {
            name: zlib.crc32(name.encode()) % settings.workers
            for name, domain in settings.domains.items()
            if domain.max_outbound_connections < settings.workers or (settings.workers > 1 and domain.replace_queued)
        }

    def __len__(self) -> int:
        return len(self._by_stanza)

    def owner_of(self, domains: Collection[str]) -> int | None:
        """The worker that owns those of *domains* that are owned; None when none is, or they have several owners. Those
        with ``replace_queued`` decide before the others."""
        owners: set[int] = set()
        replacing: set[int] = set()
        for domain in domains:
            stanza = self._settings.domain(domain)
            if stanza is not None and stanza.name in self._by_stanza:
                (replacing if stanza.replace_queued else owners).add(self._by_stanza[stanza.name])
        found = replacing or owners
        return found.pop() if len(found) == 1 else None


class HandingOver:
    """``mcmt.spool.port.Keeper`` for the doors of a worker: its own shard, or the owner's."""

    def __init__(self, own: Keeper, number: int, owners: Owners, bus: Bus) -> None:
        self._own = own
        self._number = number
        self.owners = owners
        self._bus = bus

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        """See Keeper."""
        owner = self.owners.owner_of({delivery.domain for delivery in deliveries}) if self.owners else None
        if owner is not None and owner != self._number:
            body = raw(Accept(message, tuple(deliveries), tuple(events), tuple(failures)))
            try:
                await self._bus.call(HandOver(owner, body), Nothing)
            except OutboxAway:
                pass  # it was not asked: the message stays here
            except BusError as error:
                text = f"worker {owner} was asked to keep message {message.batch_id} and did not answer: {error}"
                raise SpoolError(text) from error
            else:
                return
        await self._own.accept(message, deliveries, events, failures)

    async def record(self, events: Sequence[Event]) -> None:
        """See Keeper."""
        await self._own.record(events)
