"""Pulls bring what is due, in order, once, within their limits, whatever came back or moved meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mcmt.message.model import Delivery
from mcmt.spool import away
from mcmt.spool.sqlite import SqliteSpool
from tests.unit.spool.samples import DOMAIN, NOW, PLENTY, accept, defer, deliveries, finish, message, pull


def numbers(found: Sequence[Delivery]) -> list[int]:
    return [one.number for one in found]


async def test_what_is_out_is_not_pulled_again(spool: SqliteSpool) -> None:
    await accept(spool, 10)
    pulled = await asyncio.gather(*[pull(spool, limit=4) for _ in range(4)])
    assert sorted(one.number for found in pulled for one in found) == list(range(1, 11))


async def test_never_tried_come_by_arrival_and_tried_by_due_time(spool: SqliteSpool) -> None:
    await accept(spool, 5)
    one, two, three, *_ = await pull(spool, limit=3)
    await defer(spool, [three], NOW + 1)
    await defer(spool, [one, two], NOW + 2)
    found = await pull(spool, now=NOW + 2)
    assert numbers(found) == [4, 5, 3, 1, 2]


async def test_a_retry_is_not_kept_waiting_by_new_deliveries(spool: SqliteSpool) -> None:
    await accept(spool, 2)
    await defer(spool, await pull(spool), NOW + 1)
    await accept(spool, 100)
    found = await pull(spool, now=NOW + 1, limit=8)
    assert [one.attempts for one in found] == [0] * 6 + [1] * 2


async def test_next_due_is_told_when_fewer_were_due(spool: SqliteSpool) -> None:
    await accept(spool, 3)
    one, two, three = await pull(spool)
    await defer(spool, [one], NOW + 10)
    await defer(spool, [two], NOW + 5)
    pulled = await spool.pull(DOMAIN, NOW, 10, PLENTY)
    assert (pulled.deliveries, pulled.next_due) == ((), NOW + 5)
    pulled = await spool.pull(DOMAIN, NOW + 5, 1, PLENTY)
    assert pulled.next_due is None
    await finish(spool, [two, three])
    assert (await spool.pull(DOMAIN, NOW + 5, 2, PLENTY)).next_due == NOW + 10
    assert (await spool.pull("none.example", NOW, 2, PLENTY)).next_due is None


async def test_released_deliveries_come_first_and_as_they_were(spool: SqliteSpool) -> None:
    await accept(spool, 6)
    await defer(spool, await pull(spool, limit=2), NOW)
    found = await pull(spool, limit=5)
    assert numbers(found) == [3, 4, 5, 6, 1]
    spool.release([found[1].row, found[4].row, found[2].row])
    again = await pull(spool)
    assert numbers(again) == [4, 5, 1, 2]
    assert [one.attempts for one in again] == [0, 0, 1, 1]


async def test_a_clock_that_goes_back_loses_nothing(spool: SqliteSpool) -> None:
    await accept(spool, 3)
    await defer(spool, await pull(spool), NOW + 100)
    one, two, three = await pull(spool, now=NOW + 5000)
    spool.release([one.row])
    await defer(spool, [two], NOW + 10)
    assert (await spool.pull(DOMAIN, NOW, 10, PLENTY)).next_due == NOW + 10
    assert numbers(await pull(spool, now=NOW + 10)) == [2]
    assert numbers(await pull(spool, now=NOW + 100)) == [1]
    await defer(spool, [three], NOW + 50)
    assert numbers(await pull(spool, now=NOW + 50)) == [3]


async def test_a_time_of_zero_is_a_retry_all_the_same(spool: SqliteSpool) -> None:
    await accept(spool, 2)
    one, two = await pull(spool)
    await defer(spool, [one], 0.0)
    spool.release([two.row])
    assert numbers(await pull(spool)) == [2, 1]


async def test_a_pull_stops_at_its_bytes_but_brings_one(spool: SqliteSpool) -> None:
    for _ in range(3):
        await accept(spool, content=b"x" * 1000)
    pulled = await spool.pull(DOMAIN, NOW, 10, 1)
    assert len(pulled.deliveries) == 1
    assert pulled.next_due == NOW
    assert len((await spool.pull(DOMAIN, NOW, 10, 1999)).deliveries) == 1
    assert len((await spool.pull(DOMAIN, NOW, 10, 1999)).deliveries) == 1
    assert len((await spool.pull(DOMAIN, NOW, 10, 1999)).deliveries) == 0


async def test_a_shared_body_counts_once(spool: SqliteSpool) -> None:
    await accept(spool, 600, content=b"x" * 1000)
    assert len((await spool.pull(DOMAIN, NOW, 1000, 1000)).deliveries) == 600


async def test_each_delivery_gets_its_own_part(spool: SqliteSpool) -> None:
    kept = message(parts=3)
    await spool.accept(kept, [*deliveries(2, part=2), *deliveries(1, part=0)], [])
    assert [one.part for one in await pull(spool)] == [kept.parts[2], kept.parts[2], kept.parts[0]]


async def test_empty_bodies_and_no_bytes_at_all_are_bodies(spool: SqliteSpool) -> None:
    contents = [b"", b"\0", b"a\0b", b"", bytes(range(256))]
    for content in contents:
        await accept(spool, content=content)
    assert [one.part.content for one in await pull(spool)] == contents


async def test_expired_deliveries_of_every_domain_are_found(spool: SqliteSpool) -> None:
    await spool.accept(message(), deliveries(2, "a.example", NOW - 1), [])
    await spool.accept(message(), deliveries(2, "b.example", NOW - 2), [])
    await accept(spool, 2)
    held = await pull(spool, "a.example", limit=1)
    first = await spool.pull_expired(NOW, 2)
    assert [(one.domain, one.number) for one in first] == [("b.example", 1), ("b.example", 2)]
    second = await spool.pull_expired(NOW, 2)
    assert [(one.domain, one.number) for one in second] == [("a.example", 2)]
    assert await pull(spool, "a.example") == await pull(spool, "b.example") == []
    spool.release([first[0].row, *[one.row for one in held]])
    assert len(await spool.pull_expired(NOW, 10)) == 2


async def test_expired_and_released_is_due_again(spool: SqliteSpool) -> None:
    await spool.accept(message(), deliveries(3, expires=NOW - 1), [])
    early = await pull(spool, limit=2)
    late = await spool.pull_expired(NOW, 3)
    assert numbers([*early, *late]) == [1, 2, 3]
    await accept(spool, 1)
    assert len(await pull(spool)) == 1
    spool.release([late[0].row])
    assert numbers(await pull(spool)) == [3]


async def test_more_comes_back_than_is_remembered(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "MAX_RETURNED", 10)
    await accept(spool, 60)
    await defer(spool, await pull(spool, limit=30), NOW)
    found = await pull(spool, limit=60)
    spool.release([one.row for one in found[::2]])
    assert sorted(numbers(await pull(spool))) == sorted(numbers(found[::2]))


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_retries_have_their_share_of_small_pulls_too(spool: SqliteSpool, limit: int) -> None:
    await accept(spool, 40)
    await defer(spool, await pull(spool, limit=40), NOW)
    await accept(spool, 400)
    found = [one for _ in range(80 // limit) for one in await pull(spool, limit=limit)]
    retries = [one for one in found if one.attempts]
    assert len(found) // 4 - 2 <= len(retries) <= len(found) // 4 + 2


async def test_forgotten_cursors_bring_nothing_twice(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "MAX_DOMAINS", 2)
    for name in ("a", "b", "c", "d"):
        await accept(spool, 4, name)
    first = {name: await pull(spool, name, limit=2) for name in ("a", "b", "c", "d")}
    spool.release([first["a"][0].row])
    assert [numbers(await pull(spool, name)) for name in ("a", "b", "c", "d")] == [[1, 3, 4], [3, 4], [3, 4], [3, 4]]


async def test_a_delivery_settled_while_pulls_run_is_not_pulled_again(spool: SqliteSpool) -> None:
    await accept(spool, 400)
    seen: list[int] = []

    async def work() -> None:
        while found := await pull(spool, limit=7):
            seen.extend(numbers(found))
            spool.release([one.row for one in found[5:]])
            seen.extend(-one.number for one in found[5:])
            await finish(spool, found[:5])

    await asyncio.gather(*[work() for _ in range(8)])
    counted = {number: seen.count(number) - seen.count(-number) for number in range(1, 401)}
    assert set(counted.values()) == {1}
    assert await spool.backlog() == []
