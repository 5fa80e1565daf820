"""A later message marks what it replaces, in the transaction that accepts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from mcmt.message.event import Kind
from mcmt.spool import transaction
from mcmt.spool.port import Arrived
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from mcmt.spool.statements import ask_rows
from tests.unit.spool.samples import DOMAIN, NOW, PLENTY, defer, deliveries, event, finish, message, pull


async def accept(
    spool: SqliteSpool, key: bytes = b"score", count: int = 1, domain: str = DOMAIN, due: float = 0.0
) -> str:
    kept = message()
    new = [msgspec.structs.replace(one, collapse=key, due=due) for one in deliveries(count, domain)]
    await spool.accept(kept, new, [event(Kind.RECEPTION, kept.batch_id)])
    return kept.batch_id


class Told:
    def __init__(self, spool: SqliteSpool) -> None:
        self.rows: dict[int, str] = {}
        self.taken = 0
        spool.on_due(self)

    def __call__(self, arrived: Mapping[str, Arrived]) -> None:
        for one in arrived.values():
            self.rows.update(one.superseded)
            self.taken += len(one.take(10, PLENTY))


async def test_what_is_replaced_is_marked_on_disk_with_the_message_that_has_replaced_it(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    old = await accept(spool)
    other = await accept(spool, b"news")
    new = await accept(spool)
    await spool.close()
    spool = await open_spool(tmp_path / "spool")
    found = await pull(spool)
    assert [(one.sender.batch_id, one.superseded) for one in found] == [(old, new), (other, ""), (new, "")]
    await spool.close()


async def test_each_is_replaced_once_and_by_the_next(spool: SqliteSpool) -> None:
    batches = [await accept(spool) for _ in range(4)]
    assert [one.superseded for one in await pull(spool)] == [*batches[1:], ""]


async def test_whatever_state_it_is_in_it_is_marked(spool: SqliteSpool) -> None:
    """Out, due again later, or waiting for its time: all that is left is not to be sent."""
    told = Told(spool)
    for _ in range(2):
        await accept(spool)
    out, last = await pull(spool)
    await defer(spool, [last], NOW + 60)
    scheduled = await accept(spool, due=NOW + 100)
    assert told.rows == {out.row: last.sender.batch_id}
    new = await accept(spool)
    assert set(told.rows.values()) == {last.sender.batch_id, new}
    assert len(told.rows) == 3
    await finish(spool, [out])
    found = await pull(spool, now=NOW + 200)
    assert {one.sender.batch_id: one.superseded for one in found} == {
        last.sender.batch_id: new,
        scheduled: new,
        new: "",
    }


async def test_what_is_scheduled_replaces_nothing_before_its_time(spool: SqliteSpool) -> None:
    await accept(spool)
    await accept(spool, due=NOW + 100)
    assert [one.superseded for one in await pull(spool)] == [""]


async def test_a_domain_of_its_own_and_the_deliveries_of_one_message_do_not_replace_each_other(
    spool: SqliteSpool,
) -> None:
    await accept(spool, count=3)
    await accept(spool, domain="other.example.com")
    assert [one.superseded for one in await pull(spool)] == [""] * 3


async def test_where_something_was_replaced_nothing_is_handed_over_past_the_disk(spool: SqliteSpool) -> None:
    """Of one commit one message may have replaced another: a pull tells them apart."""
    await pull(spool)
    told = Told(spool)
    await accept(spool)
    assert told.taken == 1
    await accept(spool)
    assert told.taken == 1
    assert len(await pull(spool)) == 1


@pytest.mark.parametrize("count", [1, 4, 256])
async def test_it_is_found_by_an_index_that_others_have_no_part_in(
    spool: SqliteSpool, tmp_path: Path, count: int
) -> None:
    """However many come in one transaction: with a million queued they cost what they cost with one."""
    await accept(spool, b"", 3)
    await accept(spool, b"score")
    connection = apsw.Connection(str(tmp_path / "spool" / SHARD))

    def plan(statement: tuple[str, int]) -> list[str]:
        rows = ",".join([f"({','.join('?' * statement[1])})"] * count)
        text = f"EXPLAIN QUERY PLAN {statement[0].format(rows=rows)}"
        return [str(row[3]) for row in connection.execute(text, [None] * statement[1] * count)]

    found = plan(transaction._REPLACED)
    assert "SEARCH old USING INDEX delivery_collapse (domain=? AND collapse=? AND rowid<?)" in found
    assert "SEARCH delivery USING INTEGER PRIMARY KEY (rowid=?)" in plan(transaction._MARK)
    assert not [line for line in found + plan(transaction._MARK) if line.startswith(("SCAN old", "SCAN delivery"))]
    assert connection.execute("SELECT count(*) FROM delivery WHERE collapse IS NOT NULL").get == 1
    connection.close()


async def test_without_the_option_no_statement_is_added(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not to replace anything costs what it did."""
    asked = []

    def count(*args: Any) -> list[Any]:
        asked.append(args)
        return ask_rows(*args)

    monkeypatch.setattr(transaction, "ask_rows", count)
    await accept(spool, b"", 300)
    assert asked == []
    await accept(spool, b"score")
    assert len(asked) == 1
