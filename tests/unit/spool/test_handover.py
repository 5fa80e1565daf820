"""What a commit brought can be had without a pull: as a pull would bring it, once, in order, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mcmt.message.model import Delivery, NewDelivery
from mcmt.spool import away
from mcmt.spool.port import Arrived, Selection
from mcmt.spool.reader import Reader, Request
from mcmt.spool.sqlite import SqliteSpool, open_spool
from tests.unit.spool.samples import (
    DOMAIN,
    NOW,
    PLENTY,
    accept,
    bounce,
    defer,
    deliveries,
    fail,
    finish,
    message,
    pull,
)


class Taker:
    """A listener that takes up to *limit* of what comes into a domain."""

    def __init__(self, spool: SqliteSpool, limit: int = 100, max_bytes: int = PLENTY) -> None:
        self.limit = limit
        self.max_bytes = max_bytes
        self.taken: list[Delivery] = []
        self.rest: list[int] = []
        self.last: Arrived | None = None
        spool.on_due(self)

    def __call__(self, arrived: Mapping[str, Arrived]) -> None:
        for one in arrived.values():
            self.taken += one.take(self.limit, self.max_bytes)
            self.rest.append(one.rest)
            self.last = one

    def take(self) -> list[Delivery]:
        """What was taken since."""
        taken, self.taken = self.taken, []
        return taken


@pytest.fixture
async def taker(spool: SqliteSpool) -> Taker:
    """On a spool whose domain's end was found by a pull."""
    await pull(spool)
    return Taker(spool)


def numbers(found: list[Delivery]) -> list[int]:
    return [one.number for one in found]


async def test_it_is_what_a_pull_would_have_brought_and_is_out(spool: SqliteSpool, taker: Taker) -> None:
    kept = message(parts=2)
    await spool.accept(kept, [*deliveries(2), *deliveries(1, part=1)], [])
    taken = taker.take()
    assert numbers(taken) == [1, 2, 1]
    assert taken[0].part is taken[1].part is kept.parts[0]
    assert await pull(spool) == []
    assert [entry.active for _, entry in await spool.browse(Selection(), 0, 10)] == [True] * 3
    spool.release([one.row for one in taken])
    assert await pull(spool) == taken
    await finish(spool, taken)
    assert await spool.backlog() == []


async def test_what_is_not_taken_is_due_in_the_spool_and_comes_before_what_is_accepted_later(
    spool: SqliteSpool, taker: Taker
) -> None:
    taker.limit = 3
    await accept(spool, 5)
    later = await accept(spool, 2)
    assert numbers(taker.take()) == [1, 2, 3]
    assert taker.rest == [2, 2]
    found = await pull(spool)
    assert numbers(found) == [4, 5, 1, 2]
    assert found[-1].sender.batch_id == later
    await accept(spool, 1)
    assert len(taker.take()) == 1, "a pull has found the end, so what comes next is handed over again"


async def test_nothing_is_handed_over_before_a_pull_has_found_the_end(spool: SqliteSpool) -> None:
    taker = Taker(spool)
    await accept(spool, 3)
    assert numbers(await pull(spool, limit=3)) == [1, 2, 3]
    await accept(spool)
    assert (taker.taken, taker.rest) == ([], [3, 1]), "the pull was full: there might be more"
    assert len(await pull(spool)) == 1
    await accept(spool)
    assert len(taker.take()) == 1


async def test_nothing_is_handed_over_before_what_was_given_back(spool: SqliteSpool, taker: Taker) -> None:
    await accept(spool, 3)
    taken = taker.take()
    spool.release([taken[1].row])
    await accept(spool)
    assert taker.taken == []
    found = await pull(spool)
    assert numbers(found) == [2, 1]
    await finish(spool, [taken[0], taken[2], *found])


async def test_what_failed_for_a_while_holds_nothing_back(spool: SqliteSpool, taker: Taker) -> None:
    await accept(spool, 2)
    await defer(spool, taker.take(), NOW + 50)
    await accept(spool)
    (one,) = taker.take()
    assert numbers(await pull(spool, now=NOW + 50)) == [1, 2]
    await finish(spool, [one])


async def test_bodies_are_counted_once_and_end_it_but_for_the_first(spool: SqliteSpool, taker: Taker) -> None:
    taker.max_bytes = 1500
    kept = message(b"x" * 1000, parts=2)
    await spool.accept(kept, [*deliveries(3), *deliveries(2, part=1)], [])
    assert len(taker.take()) == 3
    assert len(await pull(spool)) == 2
    taker.max_bytes = 1
    await accept(spool, 4, content=b"x" * 1000)
    assert len(taker.take()) == 4


async def test_each_domain_of_a_message_has_its_own(spool: SqliteSpool, taker: Taker) -> None:
    await pull(spool, "b.example")
    new = deliveries(6)
    for one in (1, 2, 5):
        new[one] = deliveries(6, "b.example")[one]
    new[3] = deliveries(6, "never-pulled.example")[3]
    await spool.accept(message(), new, [])
    assert sorted((one.domain, one.number) for one in taker.take()) == [
        (DOMAIN, 1),
        (DOMAIN, 5),
        ("b.example", 2),
        ("b.example", 3),
        ("b.example", 6),
    ]
    assert numbers(await pull(spool, "never-pulled.example")) == [4]
    assert await pull(spool) == await pull(spool, "b.example") == []


class Watched(list[NewDelivery]):
    """Knows which threads looked into it."""

    def __init__(self, new: Iterable[NewDelivery]) -> None:
        super().__init__(new)
        self.looked: Counter[int] = Counter()

    def __iter__(self) -> Iterator[NewDelivery]:
        self.looked[threading.get_ident()] += len(self)
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.looked[threading.get_ident()] += len(found) if isinstance(place, slice) else 1
        return found


async def test_the_loop_looks_at_no_more_deliveries_of_a_message_than_are_taken(
    spool: SqliteSpool, taker: Taker
) -> None:
    """All that grows with them is done on the writer's thread, or others would wait for it."""
    new = Watched(deliveries(10_000))
    await spool.accept(message(), new, [])
    assert len(taker.take()) == taker.limit
    assert new.looked.pop(threading.get_ident()) == taker.limit
    assert sum(new.looked.values()) >= 10_000
    assert len(await pull(spool, limit=9_900)) == 9_900


async def test_of_several_listeners_each_gets_what_the_others_left(spool: SqliteSpool, taker: Taker) -> None:
    taker.limit = 2
    other = Taker(spool, 2)
    await accept(spool, 5)
    assert (numbers(taker.take()), numbers(other.take())) == ([1, 2], [3, 4])
    assert numbers(await pull(spool)) == [5]


async def test_a_listener_that_fails_or_comes_late_takes_nothing_from_the_spool(
    spool: SqliteSpool, taker: Taker
) -> None:
    def fail_always(arrived: Mapping[str, Arrived]) -> None:
        raise ValueError("a bug")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    taker.limit = 1
    spool.on_due(fail_always)
    await accept(spool, 3)
    assert len(told) == 1
    assert taker.last is not None
    assert list(taker.last.take(10, PLENTY)) == []
    assert numbers(taker.take()) == [1]
    assert numbers(await pull(spool)) == [2, 3]


async def test_a_cancelled_accept_is_handed_over_all_the_same(spool: SqliteSpool, taker: Taker) -> None:
    accepting = asyncio.create_task(accept(spool))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])
    await accept(spool)
    assert len(taker.take()) == 2
    assert await pull(spool) == []


async def test_what_could_not_be_kept_is_not_handed_over(spool: SqliteSpool, taker: Taker) -> None:
    batch = await accept(spool)
    await asyncio.gather(accept(spool), accept(spool, batch=batch), accept(spool), return_exceptions=True)
    taken = taker.take()
    assert len({one.row for one in taken}) == 3
    entries = await spool.browse(Selection(), 0, 10)
    assert [(row, entry.id) for row, entry in entries] == [(one.row, one.id) for one in taken]


async def test_a_report_is_handed_over_as_any_message(spool: SqliteSpool, taker: Taker) -> None:
    await accept(spool)
    await fail(spool, taker.take())
    (owed,) = await spool.pull_reports(NOW, 10)
    batch = await bounce(spool, owed)
    (one,) = taker.take()
    assert one.sender.batch_id == batch
    await finish(spool, [one])


async def test_what_expired_meanwhile_is_with_whoever_pulled_it(spool: SqliteSpool, taker: Taker) -> None:
    """Expiry looks into every domain: while it does, nothing is handed over of any."""
    await spool.accept(message(), deliveries(2, expires=NOW - 1), [])
    taken = taker.take()
    assert await spool.pull_expired(NOW, 10) == ()
    spool.release([one.row for one in taken])
    assert len(await spool.pull_expired(NOW, 10)) == 2
    # It is out, and not to be had by a pull; what comes is handed over again once a pull has found the end.
    assert await pull(spool) == []
    await accept(spool)
    assert len(taker.take()) == 1


async def test_domains_that_are_forgotten_are_pulled_again(
    spool: SqliteSpool, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "MAX_DOMAINS", 2)
    await accept(spool)
    (one,) = taker.take()
    for name in ("a", "b", "c"):
        await pull(spool, name)
    await accept(spool)
    assert taker.taken == []
    assert len(await pull(spool)) == 1
    await finish(spool, [one])


async def test_cursors_that_are_lowered_are_walked_again(
    spool: SqliteSpool, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "MAX_RETURNED", 5)
    await accept(spool, 20)
    taken = taker.take()
    spool.release([one.row for one in taken[:10]])
    await accept(spool)
    assert taker.taken == []
    assert numbers(await pull(spool)) == [*range(1, 11), 1]


async def test_while_a_pull_may_see_it_nothing_is_handed_over(
    spool: SqliteSpool, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the pull saw what came meanwhile cannot be known when it is told: another pull finds out."""
    run: Callable[[Reader, list[Request]], None] = Reader.run
    gates: list[asyncio.Event] = []

    def slow(reader: Reader, requests: list[Request]) -> None:
        run(reader, requests)
        asyncio.run_coroutine_threadsafe(gates[0].wait(), loop).result(10)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Reader, "run", slow)
    for domain in (DOMAIN, None):
        gates[:] = [asyncio.Event()]
        request = spool.pull(domain, NOW, 10, PLENTY) if domain else spool.pull_expired(NOW, 10)
        pulling = asyncio.ensure_future(request)
        await asyncio.sleep(0.01)
        batch = await accept(spool)
        assert taker.taken == []
        gates[0].set()
        await pulling
        later = await accept(spool)
        assert taker.taken == []
        assert [one.sender.batch_id for one in await pull(spool)] == [batch, later]
        await accept(spool)
        assert len(taker.take()) == 1


async def test_rows_that_are_taken_from_one_domain_hold_up_no_other(
    spool: SqliteSpool, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those are that newer pushes replace, again and again."""
    batch = await accept(spool, domain="other.example.com")
    (entry,) = await spool.browse(Selection(domain="other.example.com"), 0, 10)
    run: Callable[[Reader, list[Request]], None] = Reader.run
    gate = threading.Event()

    def slow(reader: Reader, requests: list[Request]) -> None:
        run(reader, requests)
        assert gate.wait(20)

    monkeypatch.setattr(Reader, "run", slow)
    taking = asyncio.ensure_future(spool.take({entry[0]: "other.example.com"}))
    await asyncio.sleep(0)
    taker.take()
    await accept(spool)
    here = taker.take()
    await accept(spool, domain="other.example.com")
    there = taker.take()
    gate.set()
    assert [one.sender.batch_id for one in (await taking).deliveries] == [batch]
    assert [one.domain for one in here] == [DOMAIN]
    assert there == []


async def test_order_is_kept_and_nothing_comes_twice_when_both_ways_are_mixed(spool: SqliteSpool) -> None:
    """With pulls, expiry, and things given back beside it, each is got once, and whatever was not given back in order.

    As a queue does, this takes nothing while a pull of its own is under way.
    """
    taker = Taker(spool, 3)
    count = 600
    seen: list[Delivery] = []
    given: set[int] = set()
    handed = 0
    done = False

    async def accept_all() -> None:
        nonlocal done
        for n in range(count):
            await accept(spool, 1 + n % 5)
            if n % 7 == 0:
                await asyncio.sleep(0.001)
        done = True

    async def work() -> None:
        nonlocal handed
        while not done or taker.taken or await left(spool):
            found = taker.take()
            handed += len(found)
            if not found:
                taker.limit = 0
                found = await pull(spool, limit=20)
                taker.limit = 3
            back = [one for one in found if one.row % 11 == 0 and one.row not in given]
            given.update(one.row for one in back)
            spool.release([one.row for one in back])
            kept = [one for one in found if one not in back]
            seen.extend(kept)
            await finish(spool, kept)

    async def expire() -> None:
        while not done:
            assert await spool.pull_expired(NOW, 10) == ()
            await asyncio.sleep(0.002)

    await asyncio.gather(accept_all(), work(), expire())
    assert len({one.row for one in seen}) == len(seen) == sum(1 + n % 5 for n in range(count))
    in_order = [one.row for one in seen if one.row not in given]
    assert in_order == sorted(in_order)
    assert 0 < handed < len(seen)


async def left(spool: SqliteSpool) -> int:
    return sum(backlog.deliveries for backlog in await spool.backlog())


async def test_what_was_handed_over_is_due_again_after_a_crash(spool: SqliteSpool, tmp_path: Path) -> None:
    """What is out is known in memory alone."""
    await pull(spool)
    taker = Taker(spool)
    await accept(spool, 3)
    await finish(spool, taker.take()[:1])
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    assert numbers(await pull(again)) == [2, 3]
    await again.close()
