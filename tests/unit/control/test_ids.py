"""``ids``: what is in the spool, compactly, and then the logs up to date."""

from __future__ import annotations

import apsw
import pytest

from mcmt.control import session
from mcmt.spool.port import Settlement
from mcmt.spool.sqlite import SHARD, SqliteSpool
from tests.unit.control.stand_ins import DOMAIN, Running, message


async def test_every_delivery_is_listed_once_apart_by_whether_it_waits(control: Running, spool: SqliteSpool) -> None:
    now = control.clock.time()
    for number in range(1, 4):
        made, new = message(number, now, deliveries=500)
        await spool.accept(made, new, ())
    out = (await spool.pull(DOMAIN, now, 700, 1 << 20)).deliveries
    await spool.settle([Settlement(one.row, now + 60, 1, "503") for one in out[:-1]], ())
    client = await control.client()
    await client.answer()
    await client.ask({"do": "ids"})
    *items, end = await client.answers()
    assert end == {"type": "end"}
    due = [id_ for item in items for id_ in item["item"]["due"]]
    waiting = [id_ for item in items for id_ in item["item"]["waiting"]]
    assert (len(due), sorted(waiting)) == (801, sorted(one.id for one in out[:-1]))
    assert len({*due, *waiting}) == 1500
    assert out[-1].id in due


async def test_the_end_comes_when_the_logs_have_all_lines(control: Running) -> None:
    control.eventlog.may_flush.clear()
    client = await control.client()
    await client.answer()
    await client.ask({"do": "ids"})
    await control.eventlog.flushing.wait()
    await client.ask({"do": "status"})  # is answered next, so nothing came before
    control.eventlog.may_flush.set()
    assert await client.answers() == [{"type": "end"}]


async def test_logs_that_cannot_be_written_are_told_and_not_waited_for(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FLUSH_TIMEOUT", 0.01)
    control.eventlog.may_flush.clear()
    client = await control.client()
    await client.answer()
    await client.ask({"do": "ids"})
    (failed,) = await client.answers()
    assert (failed["code"], "standard error says why" in failed["text"]) == ("busy", True)
    control.eventlog.stopped = True
    control.eventlog.may_flush.set()
    await client.ask({"do": "ids"})
    assert (await client.answers())[-1]["code"] == "stopping"


async def test_a_worker_that_went_away_meanwhile_is_told(control: Running) -> None:
    """Its lines are not in the logs, and are not waited for."""
    control.eventlog.may_flush.clear()
    client = await control.client()
    await client.answer()
    await client.ask({"do": "ids"})
    await control.eventlog.flushing.wait()
    control.front.missing = ("worker 2 has ended",)
    control.eventlog.may_flush.set()
    (failed,) = await client.answers()
    assert (failed["code"], failed["text"].startswith("a worker ended or began")) == ("busy", True)


async def test_rows_that_cannot_be_read_are_listed_with_what_can_be_known(control: Running, spool: SqliteSpool) -> None:
    made, new = message(1, control.clock.time(), deliveries=2)
    await spool.accept(made, new, ())
    other, new = message(2, control.clock.time(), deliveries=1)
    await spool.accept(other, new, ())
    connection = apsw.Connection(str(control.path.parent / "spool" / SHARD))
    connection.execute("UPDATE delivery SET data = CAST(x'ff00fe' AS TEXT) WHERE row = 1")
    connection.execute(f"DELETE FROM message WHERE batch_id = '{other.batch_id}'")
    connection.close()
    client = await control.client()
    await client.answer()
    await client.ask({"do": "ids"})
    item, _ = await client.answers()
    assert sorted(item["item"]["due"]) == ["-1", f"{made.batch_id}-0", f"{made.batch_id}-2"]
