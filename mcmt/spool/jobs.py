"""What the spool's callers want done in a transaction.

A job is made on the event loop and staged on the writer's thread, where all of its encoding is done: the loop spends
nothing on it that grows with a message's deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from mcmt.message.event import Event, Kind
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.away import GONE, Away
from mcmt.spool.held import Move
from mcmt.spool.port import OwedReport, Settlement
from mcmt.spool.rows import due_at
from mcmt.spool.tracking import Track
from mcmt.spool.transaction import Damaged, Superseded, Transaction


class SpoolJob:
    """A job that somebody waits for."""

    __slots__ = ("events", "future", "track", "weight")

    def __init__(self, future: asyncio.Future[None], events: Sequence[Event], weight: int = 0) -> None:
        self.future = future
        self.events = events
        self.weight = weight
        """Bytes that it keeps in memory until it is done."""
        self.track: Track | None = None
        """Of a message whose sender may ask what became of it."""

    def stage(self, transaction: Transaction) -> None:
        """Keep the events."""
        transaction.record(self.events)
        if self.track is not None:
            transaction.track(self.track)


class Accept(SpoolJob):
    """A message with its deliveries."""

    __slots__ = ("_failures", "deliveries", "key", "later", "message", "places", "row", "superseded")

    def __init__(
        self,
        future: asyncio.Future[None],
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        super().__init__(future, events, sum([len(part.content) for part in message.parts]) + len(message.header_block))
        self.message = message
        self.deliveries = deliveries
        self._failures = failures
        # Known once it is done, as the two keys are: of the message, and of its first delivery.
        self.places: dict[tuple[str, int], Sequence[int]] = {}
        """Where the deliveries of each domain and priority are, of *deliveries*: those that are due at once."""
        self.later: Sequence[int] = ()
        """Where those are that are due later."""
        self.key = self.row = 0
        self.superseded: list[Superseded] = []
        """What it has replaced, and perhaps what others of its transaction have."""

    def stage(self, transaction: Transaction) -> None:
        """Keep all of it."""
        deliveries = self.deliveries
        if len(deliveries) == 1 and not deliveries[0].due:
            self.places = {(deliveries[0].domain, deliveries[0].priority): (0,)}
            replacing = deliveries if deliveries[0].collapse else ()
        else:
            self.later = [place for place, delivery in enumerate(deliveries) if delivery.due]
            self.places = _by_kind(deliveries, self.later)
            replacing = [one for one in deliveries if one.collapse and not one.due]
        self.key, self.row = transaction.insert_message(self.message, self.deliveries)
        if replacing:
            self.superseded = []
            transaction.supersede(self.row, self.message.batch_id, replacing, self.superseded)
        for failure in self._failures:
            transaction.fail(self.key, 0, failure)
        transaction.record(self.events)
        if self.track is not None:
            transaction.track(self.track)


def _by_kind(deliveries: Sequence[NewDelivery], later: Sequence[int]) -> dict[tuple[str, int], Sequence[int]]:
    if len(later) == len(deliveries):
        return {}
    kinds = {(delivery.domain, delivery.priority) for delivery in deliveries}
    if len(kinds) == 1 and not later:
        return {kinds.pop(): range(len(deliveries))}
    places: dict[tuple[str, int], list[int]] = {}
    for place, delivery in enumerate(deliveries):
        if not delivery.due:
            places.setdefault((delivery.domain, delivery.priority), []).append(place)
    return dict(places)


class Bounce(Accept):
    """A report as a message of its own, and the failures that it tells."""

    __slots__ = ("_owed",)

    def __init__(
        self,
        future: asyncio.Future[None],
        owed: OwedReport,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
    ) -> None:
        super().__init__(future, message, deliveries, events)
        self._owed = owed

    def stage(self, transaction: Transaction) -> None:
        """Keep the one, let go of the others."""
        super().stage(transaction)
        transaction.tell(self._owed.key, self._owed.through, self._owed.count)


class Undeliverable(SpoolJob):
    """Failures that nobody can be told of."""

    __slots__ = ("_owed",)

    def __init__(self, future: asyncio.Future[None], owed: OwedReport, events: Sequence[Event]) -> None:
        super().__init__(future, events)
        self._owed = owed

    def stage(self, transaction: Transaction) -> None:
        """Let go of them, and tell the log."""
        super().stage(transaction)
        transaction.tell(self._owed.key, self._owed.through, self._owed.count)


class Warn(SpoolJob):
    """Deliveries that are late, and what their senders are told."""

    __slots__ = ("_late",)

    def __init__(self, future: asyncio.Future[None], late: Mapping[int, Failure | None]) -> None:
        super().__init__(future, ())
        self._late = late

    def stage(self, transaction: Transaction) -> None:
        """Note it, once."""
        for row, failure in self._late.items():
            transaction.warn(row, failure)


class Settle(SpoolJob):
    """Deliveries that are finished or due again."""

    __slots__ = ("_settlements",)

    def __init__(
        self,
        future: asyncio.Future[None],
        settlements: Sequence[tuple[Settlement, Away]],
        events: Sequence[Event],
    ) -> None:
        super().__init__(future, events)
        self._settlements = settlements

    def stage(self, transaction: Transaction) -> None:
        """Let them go, or note when they are due."""
        for settlement, away in self._settlements:
            if settlement.retry_at is None:
                transaction.finish(settlement.row, away.message, away.deliveries, away.parts)
                if settlement.failure is not None:
                    transaction.fail(away.message, settlement.row, settlement.failure)
                if settlement.watched:
                    transaction.unwatch(settlement.row)
            else:
                due = due_at(settlement.retry_at)
                transaction.reschedule(settlement.row, due, settlement.attempts, settlement.last)
        transaction.record(self.events)

    def returns(self) -> list[tuple[int, int]]:
        """(row, due) of all of them once it is done."""
        return [
            (settlement.row, GONE if settlement.retry_at is None else due_at(settlement.retry_at))
            for settlement, _ in self._settlements
        ]


class Reschedule(SpoolJob):
    """Deliveries that stay, due at another time or of another domain."""

    __slots__ = ("_moves",)

    def __init__(self, future: asyncio.Future[None], moves: Sequence[Move], events: Sequence[Event]) -> None:
        super().__init__(future, events)
        self._moves = moves

    def stage(self, transaction: Transaction) -> None:
        """Note it."""
        for row, due, domain in self._moves:
            transaction.move(row, due, domain)
        transaction.record(self.events)


class Acknowledge(SpoolJob):
    """Outbox rows that are in the logs."""

    __slots__ = ("_through",)

    def __init__(self, future: asyncio.Future[None], through: int) -> None:
        super().__init__(future, ())
        self._through = through

    def stage(self, transaction: Transaction) -> None:
        """Let them go."""
        transaction.acknowledge(self._through)


class Quarantine(SpoolJob):
    """Rows that cannot be read."""

    __slots__ = ("_damaged", "_time")

    def __init__(
        self, future: asyncio.Future[None], time: float, damaged: Sequence[Damaged], events: Sequence[Event]
    ) -> None:
        super().__init__(future, events)
        self._time = time
        self._damaged = damaged

    def stage(self, transaction: Transaction) -> None:
        """Move them, and tell."""
        transaction.quarantine(self._time, self._damaged)
        transaction.record(self.events)


class Forget(SpoolJob):
    """Keys that are not wanted any more."""

    __slots__ = ("_keys",)

    def __init__(self, future: asyncio.Future[None], keys: Sequence[str]) -> None:
        super().__init__(future, ())
        self._keys = keys

    def stage(self, transaction: Transaction) -> None:
        """Let them go."""
        transaction.forget(self._keys)


def quarantine_events(time: float, damaged: Sequence[Damaged], names: Sequence[tuple[str, str]]) -> list[Event]:
    """One for each row; *names*: delivery id and batch id of each, as far as they are known."""
    return [
        Event(
            kind=Kind.QUARANTINE,
            time=time,
            id=id_,
            batch_id=batch_id,
            domain=row.domain,
            text=f"{row.source} row {row.key} cannot be read and is in quarantine: {row.reason}",
        )
        for row, (id_, batch_id) in zip(damaged, names, strict=True)
    ]
