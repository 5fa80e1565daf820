"""Whatever the order of calls, the spool answers as a plain list of deliveries would."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcmt.message.event import Kind
from mcmt.message.failure import GATHER_SECONDS, Failure
from mcmt.message.model import Delivery, NewDelivery
from mcmt.spool.away import DEFERRED_SHARE
from mcmt.spool.port import Arrived, Selection, Settlement
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.unit.spool.samples import NOW, event, events, failure, message

DOMAINS = ("a.example", "b.example")
PATHS = ("sender@example.com", "other@example.com")
_T = TypeVar("_T")


@dataclass
class Known:
    """A delivery as the model keeps it; its place in the list is its arrival."""

    id: str
    domain: str
    body: tuple[str, int]
    size: int
    expires: float
    due: float = 0.0
    attempts: int = 0
    out: Delivery | None = None


@dataclass
class Owed:
    """A report as the model keeps it; its place among the others is that of its first failure."""

    failures: list[tuple[int, float]]
    """Number and time."""
    due: float

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.failures]


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="mcmt-spool-"))
        self.known: list[Known] = []
        self.owed: dict[tuple[str, str], Owed] = {}
        self.events: list[str] = []
        self.acknowledged = 0
        self.now = NOW
        self.batches = 0
        self.room = (0, 0)
        self.arrived: dict[str, tuple[list[Delivery], int]] = {}

    def teardown(self) -> None:
        self.run(self.spool.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, awaited: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(awaited)

    @initialize()
    def open(self) -> None:
        self.spool: SqliteSpool = self.run(open_spool(self.folder / "spool"))
        self.spool.on_due(self.take_over)
        self.credit: dict[str, int] = {}

    @rule(
        plan=st.lists(
            st.tuples(st.sampled_from(DOMAINS), st.integers(0, 1), st.integers(-5, 50)), min_size=1, max_size=9
        ),
        size=st.integers(0, 40),
        without_part=st.integers(0, 2),
        limit=st.integers(0, 6),
        max_bytes=st.integers(0, 60),
    )
    def accept(
        self, plan: list[tuple[str, int, int]], size: int, without_part: int, limit: int, max_bytes: int
    ) -> None:
        """Some may be handed over at once: the first ones, and only where none waits that came before."""
        self.batches += 1
        self.room = (limit, max_bytes)
        kept = message(b"x" * size, f"{self.batches:024x}", parts=2, received=self.now)
        new = []
        for number, (domain, part, life) in enumerate(plan, 1):
            expires = self.now + life
            new.append(NewDelivery(number, domain, f"r{number}", f"t{number}", part, expires))
            body = len(kept.parts[part].content)
            self.known.append(Known(f"{kept.batch_id}-{number}", domain, (kept.batch_id, part), body, expires))
        failures = [failure(len(plan) + n, self.now, PATHS[0]) for n in range(1, without_part + 1)]
        self.run(self.spool.accept(kept, new, [event(Kind.RECEPTION, kept.batch_id)], failures))
        self.events.append(kept.batch_id)
        for one in failures:
            self.owe(kept.batch_id, one)
        self.hand_over(len(plan))

    def hand_over(self, count: int) -> None:
        """See what was taken of the last *count* when they were accepted."""
        before, new = self.known[: len(self.known) - count], self.known[len(self.known) - count :]
        waiting = {one.domain for one in before if one.out is None and not one.due}
        arrived, self.arrived = self.arrived, {}
        assert arrived.keys() == {one.domain for one in new}
        for domain, (taken, rest) in arrived.items():
            mine = [one for one in new if one.domain == domain]
            assert len(taken) + rest == len(mine)
            if taken:
                assert domain not in waiting
                assert len(taken) <= self.room[0]
                bodies = {one.part: len(one.part.content) for one in taken}
                assert len(bodies) == 1 or sum(bodies.values()) <= self.room[1]
                self.take(mine[: len(taken)], taken)

    def take_over(self, arrived: Mapping[str, Arrived]) -> None:
        for domain, one in arrived.items():
            taken = list(one.take(*self.room))
            self.arrived[domain] = taken, one.rest

    def owe(self, batch: str, one: Failure) -> None:
        owed = self.owed.setdefault((batch, one.return_path), Owed([], self.now + GATHER_SECONDS))
        owed.failures.append((one.number, one.time))

    def look_for_finished(self) -> None:
        pending = {one.id.partition("-")[0] for one in self.known}
        for (batch, _), owed in self.owed.items():
            if batch not in pending:
                owed.due = 0.0

    @rule(domain=st.sampled_from(DOMAINS), limit=st.integers(1, 12), max_bytes=st.integers(0, 200))
    def pull(self, domain: str, limit: int, max_bytes: int) -> None:
        waiting = [one for one in self.known if one.domain == domain and one.out is None]
        fresh = [one for one in waiting if not one.due]
        deferred = sorted((one for one in waiting if one.due), key=lambda one: one.due)
        ready = [one for one in deferred if one.due <= self.now]
        places, self.credit[domain] = divmod(self.credit.get(domain, 0) + limit, DEFERRED_SHARE)
        share = ready[: min(places, limit)]
        taken: list[Known] = []
        bodies: set[tuple[str, int]] = set()
        total = 0
        full = False
        for one in [*share, *fresh[: limit - len(share)], *ready[len(share) :]][:limit]:
            if one.body not in bodies:
                if taken and total + one.size > max_bytes:
                    full = True
                    break
                bodies.add(one.body)
                total += one.size
            taken.append(one)
        later = [one.due for one in deferred if one.due > self.now]
        next_due = self.now if full else None if len(taken) == limit or not later else later[0]

        pulled = self.run(self.spool.pull(domain, self.now, limit, max_bytes))
        expected = sorted(taken, key=lambda one: one.due > 0)
        assert [one.id for one in pulled.deliveries] == [one.id for one in expected]
        assert pulled.next_due == next_due
        self.take(expected, list(pulled.deliveries))

    @rule(limit=st.integers(1, 12))
    def pull_expired(self, limit: int) -> None:
        dead = [one for one in self.known if one.out is None and one.expires <= self.now]
        dead = sorted(dead, key=lambda one: one.expires)[:limit]
        pulled = self.run(self.spool.pull_expired(self.now, limit))
        assert [one.id for one in pulled] == [one.id for one in dead]
        self.take(dead, list(pulled))

    def take(self, expected: list[Known], found: list[Delivery]) -> None:
        for one, delivery in zip(expected, found, strict=True):
            assert delivery.id == one.id
            assert (delivery.attempts, delivery.expires, delivery.domain) == (one.attempts, one.expires, one.domain)
            assert len(delivery.part.content) == one.size
            one.out = delivery

    def some_out(self, data: st.DataObject) -> list[Known]:
        out = [one for one in self.known if one.out is not None]
        chosen = data.draw(st.sets(st.integers(0, len(out) - 1), min_size=1))
        return [out[n] for n in sorted(chosen)]

    @precondition(lambda self: any(one.out for one in self.known))
    @rule(data=st.data(), delays=st.lists(st.none() | st.sampled_from(PATHS) | st.integers(-20, 20), min_size=1))
    def settle(self, data: st.DataObject, delays: list[int | str | None]) -> None:
        """Finished (None), failed (whom to tell), or due again."""
        settlements = []
        for number, one in enumerate(self.some_out(data)):
            assert one.out is not None
            delay = delays[number % len(delays)]
            if isinstance(delay, str):
                dead = failure(one.out.number, self.now, delay)
                settlements.append(Settlement(one.out.row, failure=dead))
                self.known.remove(one)
                self.owe(one.out.sender.batch_id, dead)
            elif delay is None:
                settlements.append(Settlement(one.out.row))
                self.known.remove(one)
            else:
                one.attempts += 1
                one.due = self.now + delay
                settlements.append(Settlement(one.out.row, one.due, one.attempts, "busy"))
            one.out = None
            self.events.append(one.id)
        told = self.events[len(self.events) - len(settlements) :]
        self.run(self.spool.settle(settlements, [event(Kind.DELIVERY, id_) for id_ in told]))
        self.look_for_finished()

    @rule(later=st.sampled_from([0.0, GATHER_SECONDS, 1e6]), limit=st.integers(1, 3), make=st.booleans())
    def report(self, later: float, limit: int, make: bool) -> None:
        """Pull reports and make them all, or give them all up."""
        now = self.now + later
        due = sorted([owed for owed in self.owed.values() if owed.due <= now], key=lambda owed: owed.due)[:limit]
        keys = [next(key for key, owed in self.owed.items() if owed is one) for one in due]
        found = self.run(self.spool.pull_reports(now, limit))
        assert [(one.sender.batch_id, one.return_path) for one in found] == keys
        for key, one in zip(keys, found, strict=True):
            assert [dead.number for dead in one.failures] == self.owed.pop(key).numbers
            assert one.count == len(one.failures)
            assert one.header_block == b"Subject: hello\r\n"
            self.batches += 1
            kept = message(b"", f"{self.batches:024x}", received=self.now)
            new = [NewDelivery(1, DOMAINS[0], "r1", "t1", 0, self.now + 50)]
            if make:
                self.known.append(Known(f"{kept.batch_id}-1", DOMAINS[0], (kept.batch_id, 0), 0, self.now + 50))
            self.run(self.spool.report(one, kept if make else None, new, [event(Kind.RECEPTION, kept.batch_id)]))
            self.events.append(kept.batch_id)
            self.hand_over(int(make))

    @invariant()
    def nothing_is_left_of_what_is_done(self) -> None:
        file = apsw.Connection(str(self.folder / "spool" / SHARD), flags=apsw.SQLITE_OPEN_READONLY)
        kept = {batch for (batch,) in file.execute("SELECT batch_id FROM message")}
        failures = file.execute("SELECT count(*) FROM failure").get
        parts = file.execute("SELECT count(*) FROM part").get
        file.close()
        pending = {one.id.partition("-")[0] for one in self.known}
        assert kept == pending | {batch for batch, _ in self.owed}
        assert failures == sum(len(owed.failures) for owed in self.owed.values())
        assert bool(parts) == bool(pending)

    @precondition(lambda self: any(one.out for one in self.known))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        chosen = self.some_out(data)
        self.spool.release([one.out.row for one in chosen if one.out is not None])
        for one in chosen:
            one.out = None

    @rule(by=st.integers(-30, 30))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule()
    def reopen(self) -> None:
        self.run(self.spool.close())
        self.open()
        for one in self.known:
            one.out = None

    @rule(limit=st.integers(1, 3))
    def acknowledge(self, limit: int) -> None:
        rows = self.run(self.spool.read_outbox(0, limit))
        if rows:
            self.run(self.spool.acknowledge(rows[-1].sequence))
            assert rows[0].sequence > self.acknowledged
            self.acknowledged = rows[-1].sequence
            del self.events[: sum(len(row.events) for row in rows)]
            self.run(self.spool.record([event(Kind.ROUTE, "route")]))  # with this the rows go
            self.events.append("route")

    @invariant()
    def counts_agree(self) -> None:
        found = {one.domain: (one.deliveries, one.next_due) for one in self.run(self.spool.backlog())}
        assert found == {
            domain: (len(dues), min(dues))
            for domain in DOMAINS
            if (dues := [one.due for one in self.known if one.domain == domain])
        }

    @invariant()
    def events_agree(self) -> None:
        assert [one.id for one in self.run(events(self.spool))] == self.events

    @rule(domain=st.none() | st.sampled_from(DOMAINS))
    def browse(self, domain: str | None) -> None:
        found = [entry for _, entry in self.run(self.spool.browse(Selection(domain=domain), 0, 1000))]
        expected = [one for one in self.known if domain in (None, one.domain)]
        assert [(one.id, one.due, one.attempts, one.active) for one in found] == [
            (one.id, one.due, one.attempts, one.out is not None) for one in expected
        ]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def find(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.known)).id.partition("-")[0]
        found = self.run(self.spool.find(batch))
        assert [one.id for one in found] == [one.id for one in self.known if one.id.startswith(batch)]


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
