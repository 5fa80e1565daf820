"""What is urgent comes out of the spool first, whatever waits; what is not comes too; and a pull costs what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import apsw
import msgspec
import pytest

from mcmt.cli import queue
from mcmt.message.event import Kind
from mcmt.message.model import Delivery
from mcmt.message.priority import BULK, CLASSES, HIGH, NORMAL
from mcmt.spool import fetch, schema
from mcmt.spool.away import LOWER_SHARE
from mcmt.spool.port import Arrived, Change, Selection
from mcmt.spool.schema import ids
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.unit.spool.samples import DOMAIN, NOW, PLENTY, defer, deliveries, event, finish, message, pull


async def accept(spool: SqliteSpool, priority: int, count: int = 1, domain: str = DOMAIN) -> None:
    kept = message()
    new = [msgspec.structs.replace(one, priority=priority) for one in deliveries(count, domain)]
    await spool.accept(kept, new, [event(Kind.RECEPTION, kept.batch_id)])


def classes(found: list[Delivery]) -> list[int]:
    return [one.priority for one in found]


async def test_what_is_urgent_is_pulled_before_what_came_earlier(spool: SqliteSpool) -> None:
    for priority in (BULK, NORMAL, HIGH, BULK, NORMAL, HIGH):
        await accept(spool, priority)
    found = await pull(spool)
    assert classes(found) == [HIGH, HIGH, NORMAL, NORMAL, BULK, BULK]
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert one.row < other.row


async def test_a_listing_and_what_is_shown_say_the_class(
    spool: SqliteSpool, capsys: pytest.CaptureFixture[str]
) -> None:
    for priority in (BULK, NORMAL, HIGH):
        await accept(spool, priority)
    listed = [entry for _, entry in await spool.browse(Selection(), 0, 10)]
    assert [entry.priority for entry in listed] == ["bulk", "normal", "high"]
    for entry in listed:
        assert [entry] == await spool.find(entry.id)
        queue._write_entry(entry, NOW)
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("priority")]
    assert shown == [["priority", "bulk"], ["priority", "normal"], ["priority", "high"]]


async def test_what_is_queued_is_counted_by_class(spool: SqliteSpool) -> None:
    for priority, count in ((BULK, 4), (NORMAL, 3), (HIGH, 2)):
        await accept(spool, priority, count)
    await accept(spool, BULK, domain="other.example")
    one, other = await spool.backlog()
    assert (one.deliveries, one.high, one.bulk) == (9, 2, 4)
    assert (other.deliveries, other.high, other.bulk) == (1, 0, 1)
    assert one.next_due == 0
    assert one.oldest == NOW


async def test_what_is_urgent_comes_with_the_next_pull_past_a_million_or_a_few(spool: SqliteSpool) -> None:
    await accept(spool, BULK, 600)
    first = await pull(spool, limit=100)
    await accept(spool, HIGH)
    assert classes(first) == [BULK] * 100
    assert classes(await pull(spool, limit=10))[0] == HIGH


async def test_one_of_ten_is_of_a_lower_class_so_that_nothing_waits_for_ever(spool: SqliteSpool) -> None:
    await accept(spool, BULK, 50)
    await accept(spool, NORMAL, 250)
    await accept(spool, HIGH, 250)
    found: Counter[int] = Counter()
    for _ in range(20):
        found.update(classes(await pull(spool, limit=5)))
    assert found == {HIGH: 80, NORMAL: 10, BULK: 10}
    assert sum(found.values()) == 100
    assert found[BULK] == 100 // LOWER_SHARE


async def test_places_that_the_urgent_do_not_need_are_everyones(spool: SqliteSpool) -> None:
    await accept(spool, BULK, 2)
    await accept(spool, NORMAL, 30)
    await accept(spool, HIGH, 3)
    assert Counter(classes(await pull(spool, limit=20))) == {HIGH: 3, NORMAL: 15, BULK: 2}


async def test_a_pull_of_the_urgent_alone_leaves_the_rest(spool: SqliteSpool) -> None:
    await accept(spool, BULK, 3)
    await accept(spool, HIGH, 3)
    pulled = await spool.pull(DOMAIN, NOW, 2, PLENTY, HIGH)
    assert [one.priority for one in pulled.deliveries] == [HIGH, HIGH]
    assert classes(await pull(spool)) == [HIGH, BULK, BULK, BULK]


async def test_a_delivery_keeps_its_priority_whatever_happens_to_it(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, HIGH)
    await accept(spool, NORMAL)
    (urgent, _) = await pull(spool)
    await defer(spool, [urgent], NOW + 60)
    (again,) = await pull(spool, now=NOW + 61)
    assert (again.priority, again.attempts) == (HIGH, 1)
    for verb in ("hold", "release", "retry"):
        await spool.change([again.row], Change(verb, NOW + 61), [])
        (again,) = (await spool.take({again.row: DOMAIN})).deliveries
    await spool.change([again.row], Change("reroute", domain="other.example.com"), [])
    (moved,) = await pull(spool, "other.example.com", NOW + 100)
    assert moved.priority == HIGH
    spool.release([moved.row])
    await spool.close()
    spool = await open_spool(tmp_path / "spool")
    assert classes(await pull(spool, "other.example.com", NOW + 100)) == [HIGH]
    await spool.close()


async def test_what_is_urgent_and_moved_into_a_domain_that_had_none_is_found_there(spool: SqliteSpool) -> None:
    other = "other.example.com"
    await accept(spool, NORMAL, domain=other)
    assert classes(await pull(spool, other)) == [NORMAL]
    await accept(spool, HIGH)
    (urgent,) = await pull(spool)
    await spool.change([urgent.row], Change("reroute", domain=other), [])
    assert classes(await pull(spool, other)) == [HIGH]


async def test_a_retry_of_the_urgent_is_waited_for(spool: SqliteSpool) -> None:
    await accept(spool, HIGH)
    (urgent,) = await pull(spool)
    await defer(spool, [urgent], NOW + 60)
    await accept(spool, BULK)
    (bulk,) = await pull(spool)
    await defer(spool, [bulk], NOW + 30)
    assert (await spool.pull(DOMAIN, NOW, 10, PLENTY)).next_due == NOW + 30
    assert (await spool.pull(DOMAIN, NOW + 40, 10, PLENTY)).next_due == NOW + 60


async def test_the_urgent_are_handed_over_past_others_that_wait_in_the_spool(spool: SqliteSpool) -> None:
    """So a one-time code does not wait for a pull."""
    taken: list[Delivery] = []

    def take(arrived: Mapping[str, Arrived]) -> None:
        taken.extend(arrived[DOMAIN].take(10, PLENTY))

    await pull(spool)
    await accept(spool, BULK, 20)
    spool.on_due(take)
    await accept(spool, BULK)
    assert taken == []
    await accept(spool, HIGH)
    assert classes(taken) == [HIGH]
    await accept(spool, HIGH, 2)
    assert classes(taken) == [HIGH] * 3
    found = await pull(spool)
    assert classes(found) == [BULK] * 21
    await finish(spool, [*taken, *found])
    assert await spool.is_empty() is False  # the outbox
    assert await spool.backlog() == []


async def test_of_one_commit_the_most_urgent_are_taken_first(spool: SqliteSpool) -> None:
    await pull(spool)
    taken: list[Delivery] = []
    rest = []

    def take(arrived: Mapping[str, Arrived]) -> None:
        taken.extend(arrived[DOMAIN].take(3, PLENTY, NORMAL))
        rest.append((arrived[DOMAIN].rest, arrived[DOMAIN].highest))

    spool.on_due(take)
    new = deliveries(6)
    new = [msgspec.structs.replace(one, priority=CLASSES[one.number % 3]) for one in new]
    await spool.accept(message(), new, [])
    assert classes(taken) == [HIGH, HIGH, NORMAL]
    assert rest == [(3, NORMAL)]
    assert classes(await pull(spool)) == [NORMAL, BULK, BULK]


@pytest.mark.parametrize("priority", CLASSES)
async def test_a_pull_looks_its_rows_up_and_sorts_nothing(spool: SqliteSpool, tmp_path: Path, priority: int) -> None:
    """With a million queued it costs what it costs with one: every statement of it goes by an index, in its order."""
    assert await pull(spool) == []
    connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
    for statement, bound in (
        (fetch._WALK, (DOMAIN, 0, 0, 5, 10, priority)),
        (fetch._NEXT, (DOMAIN, priority, 0)),
        (fetch._PRIORITIES, (DOMAIN,)),
    ):
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", bound)]
        looked_up = [line for line in plan if line.startswith("SEARCH delivery")]
        assert looked_up
        assert all("INDEX delivery_due (domain=? AND priority=?" in line for line in looked_up)
        assert not [line for line in plan if "TEMP B-TREE" in line or line.startswith("SCAN delivery")]
    connection.close()


async def test_what_has_come_back_is_looked_up_by_its_rows(spool: SqliteSpool, tmp_path: Path) -> None:
    """And not by walking its domain, whatever is queued there."""
    connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
    bound = (ids([1, 2]), DOMAIN)
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {fetch._BY_ROW}", bound)]
    assert "SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)" in plan
    connection.close()


async def test_a_domain_of_one_priority_is_asked_no_more_than_before(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lanes of a domain are known from its first pull on: a pull of the usual kind walks one."""
    await accept(spool, NORMAL, 3)
    await pull(spool, limit=1)
    asked: list[tuple[object, ...]] = []
    walk = fetch.Fetch.walk

    def count(self: fetch.Fetch, *args: object) -> fetch.Page:
        asked.append(args)
        return walk(self, *args)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(fetch.Fetch, "walk", count)
    monkeypatch.setattr(fetch.Fetch, "priorities", None)
    assert len(await pull(spool, limit=10)) == 2
    assert {args[1] for args in asked} == {NORMAL}
    assert len(asked) == 3


async def test_a_shard_of_version_4_is_brought_up_in_place(tmp_path: Path) -> None:
    """What was queued is of the normal class, and what is in quarantine can be put back as before."""
    spool = await open_spool(tmp_path / "spool")
    await accept(spool, NORMAL, 2)
    await spool.close()
    old = apsw.Connection(str(tmp_path / "spool" / SHARD))
    old.execute("DROP INDEX delivery_due; DROP INDEX delivery_collapse; DROP TABLE delay")
    old.execute("ALTER TABLE delivery DROP COLUMN collapse; ALTER TABLE delivery DROP COLUMN priority")
    old.execute("CREATE INDEX delivery_due ON delivery (domain, due)")
    values = ", ".join(f"' || quote({name}) || '" for name in schema.COLUMNS["delivery"][:8])
    old.execute(
        "INSERT INTO quarantine (time, source, key, reason, statement)"
        f" SELECT 1.0, 'delivery', row, 'a test', CAST('INSERT INTO delivery VALUES ({values});' AS BLOB)"
        " FROM delivery ORDER BY row LIMIT 1"
    )
    old.execute("DELETE FROM delivery WHERE row = (SELECT key FROM quarantine)")
    old.pragma("user_version", 4)
    old.close()

    spool = await open_spool(tmp_path / "spool")
    await accept(spool, HIGH)
    assert classes(await pull(spool)) == [HIGH, NORMAL]
    await spool.close()
    now = apsw.Connection(str(tmp_path / "spool" / SHARD))
    assert now.pragma("user_version") == schema.VERSION == 5
    now.execute(now.execute("SELECT statement FROM quarantine").get.decode())
    now.close()
    spool = await open_spool(tmp_path / "spool")
    assert classes(await pull(spool)) == [HIGH, NORMAL, NORMAL]
    await spool.close()
