"""What senders are owed: failures gather by message and return path, and go with the report that tells them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import msgspec
import pytest

from mcmt.errors import SpoolError, SpoolUnusable
from mcmt.message.dsn import MAX_LISTED
from mcmt.message.event import Kind
from mcmt.message.failure import GATHER_SECONDS
from mcmt.spool import owed as owed_statements
from mcmt.spool import reports as report_queries
from mcmt.spool import schema
from mcmt.spool.port import OwedReport, Settlement
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.unit.spool.samples import (
    NOW,
    accept,
    bounce,
    defer,
    deliveries,
    event,
    events,
    fail,
    failure,
    finish,
    message,
    pull,
)
from tests.unit.spool.test_quarantine import damage, quarantine

LATER = NOW + GATHER_SECONDS


def numbers(owed: OwedReport) -> list[int]:
    return [one.number for one in owed.failures]


def left(folder: Path) -> dict[str, int]:
    """Rows by table."""
    connection = apsw.Connection(str(folder / "spool" / SHARD), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("message", "part", "delivery", "report", "failure")
    found = {table: connection.execute(f"SELECT count(*) FROM {table}").get for table in tables}
    connection.close()
    return {table: count for table, count in found.items() if count}


async def test_a_failure_is_owed_a_report_at_once_when_nothing_of_its_message_is_pending(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    batch = await accept(spool)
    await fail(spool, await pull(spool))
    (owed,) = await spool.pull_reports(NOW, 10)
    assert owed.sender.batch_id == batch
    assert owed.sender.received == NOW
    assert owed.sender.context == {"DLV_Source_Addr": "sender"}
    assert owed.header_block == b"Subject: hello\r\n"
    assert owed.return_path == "sender@example.com"
    assert (owed.failures, owed.count) == ((failure(1),), 1)
    # The message is kept for the report, its parts are not.
    assert left(tmp_path) == {"message": 1, "report": 1, "failure": 1}
    assert await spool.domains() == []
    told = await bounce(spool, owed)
    assert await spool.pull_reports(NOW + 1e6, 10) == []
    assert left(tmp_path) == {"message": 1, "part": 1, "delivery": 1}
    (delivery,) = await pull(spool)
    assert (delivery.sender.batch_id, delivery.sender.reverse_path) == (told, "")
    await finish(spool, [delivery])
    assert left(tmp_path) == {}


async def test_failures_gather_while_others_are_pending_but_not_for_ever(spool: SqliteSpool) -> None:
    await accept(spool, 4)
    first, second, third, fourth = await pull(spool)
    await fail(spool, [first], NOW)
    await fail(spool, [second], NOW + 100)
    assert await spool.pull_reports(LATER - 1, 10) == []
    (owed,) = await spool.pull_reports(LATER, 10)
    assert (numbers(owed), owed.count) == ([1, 2], 2)
    await bounce(spool, owed)
    # What fails later makes a further report, in its own time.
    await fail(spool, [third], NOW + 1000)
    assert await spool.pull_reports(NOW + 1000, 10) == []
    await finish(spool, [fourth])
    (owed,) = await spool.pull_reports(NOW, 10)
    assert numbers(owed) == [3]


async def test_each_return_path_has_a_report_of_its_own(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 3)
    one, two, three = await pull(spool)
    await fail(spool, [one, three])
    await fail(spool, [two], path="other@example.com")
    found = await spool.pull_reports(NOW, 10)
    assert [(owed.return_path, numbers(owed)) for owed in found] == [
        ("sender@example.com", [1, 3]),
        ("other@example.com", [2]),
    ]
    await bounce(spool, found[0])
    assert left(tmp_path)["message"] == 2, "the other report still needs the message"
    await spool.report(found[1], None, (), [event(Kind.PERMANENT, "undeliverable")])
    assert left(tmp_path) == {"message": 1, "part": 1, "delivery": 1}
    assert [one.id for one in await events(spool)][-1] == "undeliverable"


async def test_recipients_without_a_part_are_owed_a_report_from_the_first(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.accept(message(), deliveries(1), [], [failure(2), failure(3)])
    assert await spool.pull_reports(LATER - 1, 10) == []
    (owed,) = await spool.pull_reports(LATER, 10)
    assert numbers(owed) == [2, 3]
    await spool.report(owed, None, (), [])
    assert left(tmp_path) == {"message": 1, "part": 1, "delivery": 1}
    await finish(spool, await pull(spool))
    assert left(tmp_path) == {}


async def test_a_message_of_which_nothing_is_to_be_delivered_is_kept_for_its_report_which_is_due_at_once(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    await spool.accept(message(parts=0), [], [event(Kind.PERMANENT, "suppressed")], [failure(1), failure(2)])
    assert await spool.domains() == []
    assert not await pull(spool)
    (owed,) = await spool.pull_reports(NOW, 10)
    assert numbers(owed) == [1, 2]
    assert owed.header_block == b"Subject: hello\r\n"
    assert [one.id for one in await events(spool)] == ["suppressed"]
    await spool.report(owed, None, (), [])
    assert left(tmp_path) == {}


async def test_what_fails_while_a_report_is_being_made_is_told_by_the_next(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 3)
    one, two, three = await pull(spool)
    await fail(spool, [one], NOW)
    (owed,) = await spool.pull_reports(LATER, 10)
    await fail(spool, [two], LATER + 1)
    await bounce(spool, owed)
    assert await spool.pull_reports(LATER + GATHER_SECONDS, 10) == []
    (rest,) = await spool.pull_reports(LATER + 1 + GATHER_SECONDS, 10)
    assert numbers(rest) == [2]
    # In one and the same transaction as well.
    await asyncio.gather(spool.report(rest, None, (), []), fail(spool, [three], LATER + 2))
    (last,) = await spool.pull_reports(NOW, 10)
    assert numbers(last) == [3]
    await spool.report(last, None, (), [])
    assert left(tmp_path) == {"message": 1, "part": 1, "delivery": 1}


async def test_a_report_is_made_once(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool)
    await fail(spool, await pull(spool))
    (owed,) = await spool.pull_reports(NOW, 10)
    results = await asyncio.gather(bounce(spool, owed), bounce(spool, owed), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["NotKept", "str"]
    with pytest.raises(SpoolError, match="reported before"):
        await bounce(spool, owed)
    assert left(tmp_path) == {"message": 1, "part": 1, "delivery": 1}
    assert sum(one.kind == Kind.RECEPTION for one in await events(spool)) == 2


async def test_of_many_failures_a_hundred_are_read_and_all_are_counted(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 2000)
    found = await pull(spool, limit=2000)
    await fail(spool, found[:500])
    await finish(spool, found[500:])
    (owed,) = await spool.pull_reports(NOW, 10)
    assert owed.count == 500
    assert numbers(owed) == list(range(1, MAX_LISTED + 1))
    await spool.report(owed, None, (), [])
    assert left(tmp_path) == {}


async def test_our_own_word_for_the_end_comes_with_the_answer_before_it(spool: SqliteSpool) -> None:
    await accept(spool, 3)
    await defer(spool, await pull(spool), NOW)
    one, two, three = await pull(spool)
    await fail(spool, [one], text="5.4.7 [internal] exceeded max time without delivery")
    await fail(spool, [two], text="5.4.7 [internal] exceeded max retries without delivery", last="500 just now")
    await fail(spool, [three])
    (owed,) = await spool.pull_reports(NOW, 10)
    assert [one.last for one in owed.failures] == ["503 busy", "500 just now", ""]


async def test_what_is_owed_outlives_a_restart(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 2)
    first, _ = await pull(spool)
    await fail(spool, [first])
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    (second,) = await pull(again)
    await fail(again, [second])
    (owed,) = await again.pull_reports(NOW, 10)
    assert numbers(owed) == [1, 2]
    await again.close()


async def test_a_page_has_those_first_that_wait_for_nothing(spool: SqliteSpool) -> None:
    await accept(spool, 2)
    waiting, _ = await pull(spool)
    await fail(spool, [waiting])
    for _ in range(4):
        await accept(spool)
        await fail(spool, await pull(spool), NOW + 50)
    pages = [await spool.pull_reports(LATER, 3), await spool.pull_reports(LATER, 10)]
    assert [len(page) for page in pages] == [3, 5]
    assert pages[1][:3] == pages[0]
    assert pages[1][4].failures == (failure(waiting.number),)


async def test_a_page_is_bounded_in_bytes(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (50_000, 10_000, 10_000):
        kept = msgspec.structs.replace(message(), header_block=b"x" * size)
        await spool.accept(kept, deliveries(1), [])
        await fail(spool, await pull(spool))
    monkeypatch.setattr(report_queries, "MAX_BYTES", 25_000)
    sizes = []
    while found := await spool.pull_reports(NOW, 10):
        sizes.append([len(owed.header_block) for owed in found])
        for owed in found:
            await spool.report(owed, None, (), [])
    assert sizes == [[50_000], [10_000, 10_000]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE failure SET data = CAST(x'ff00fe' AS TEXT) WHERE id = 2",
        "UPDATE failure SET data = '[1]' WHERE id = 2",
        "UPDATE message SET envelope = x'00' WHERE row = 2",
        "UPDATE message SET sender = '[]' WHERE row = 2",
        "UPDATE report SET return_path = CAST(x'c328' AS TEXT) WHERE id = 2",
        "DELETE FROM message WHERE row = 2",
        "DELETE FROM failure WHERE id = 2",
    ],
)
async def test_a_report_that_cannot_be_read_goes_to_quarantine_and_the_others_on(
    spool: SqliteSpool, tmp_path: Path, statement: str
) -> None:
    for _ in range(3):
        await accept(spool)
        await fail(spool, await pull(spool))
    damage(tmp_path, statement)
    found = await spool.pull_reports(NOW, 10)
    assert [owed.key for owed in found] == [1, 3]
    assert await spool.quarantined() == 1
    assert len(await spool.pull_reports(NOW, 10)) == 2
    (told,) = [one for one in await events(spool) if one.kind == Kind.QUARANTINE]
    assert told.text.startswith("report row 2 cannot be read and is in quarantine: ")
    # What stands there puts the row back.
    ((source, back),) = quarantine(tmp_path)
    assert source == "report"
    damage(tmp_path, back.decode())
    assert len(await spool.pull_reports(NOW, 10)) == 2
    assert await spool.quarantined() == 2


async def test_a_spool_of_the_first_version_is_brought_up_in_place(tmp_path: Path) -> None:
    """A file as version 1 made it, with a message in it: nothing is lost, and reports are made from it."""
    spool = await open_spool(tmp_path / "now")
    kept = message(batch="01a2047eff9c7d13a1d81519", parts=2)
    await spool.accept(kept, deliveries(2), [event(Kind.RECEPTION, "r")])
    await spool.close()
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    old = apsw.Connection(str(folder / SHARD))
    old.execute((Path(__file__).parent / "version_1.sql").read_text())
    old.pragma("application_id", schema.APPLICATION)
    old.pragma("user_version", 1)
    old.execute("ATTACH ? AS now", (str(tmp_path / "now" / SHARD),))
    for table in ("message", "part", "delivery", "outbox"):
        columns = ", ".join(str(row[1]) for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO {table} SELECT {columns} FROM now.{table}")
    old.close()

    spool = await open_spool(folder)
    found = await pull(spool)
    assert [one.part.content for one in found] == [kept.parts[0].content] * 2
    assert [one.id for one in await events(spool)] == ["r"]
    await fail(spool, found)
    (owed,) = await spool.pull_reports(NOW, 10)
    assert (owed.sender.batch_id, owed.header_block) == (kept.batch_id, kept.header_block)
    await spool.close()
    # Opened again it is what it is.
    spool = await open_spool(folder)
    assert await spool.pull_reports(NOW, 10) == [owed]
    await spool.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    old = apsw.Connection(str(folder / SHARD))
    old.execute((Path(__file__).parent / "version_1.sql").read_text())
    old.pragma("application_id", schema.APPLICATION)
    old.pragma("user_version", 1)
    old.execute("CREATE TABLE failure (x)")
    with pytest.raises(SpoolUnusable, match="failure already exists"):
        await open_spool(folder)
    assert old.pragma("user_version") == 1
    assert not old.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'report%'").get
    old.execute("DROP TABLE failure")
    old.close()
    await (await open_spool(folder)).close()


STATEMENTS = [
    owed_statements._REPORT[0].format(rows="(1, 2, 3)"),
    owed_statements._FAILURE[0].format(rows="(1, 2, 3, 4, 5, 6)"),
    owed_statements._TOLD[0].format(rows="(1, 2)"),
    owed_statements._AGAIN,
    owed_statements._DONE,
    owed_statements._LET_GO,
    owed_statements._FINISHED,
    owed_statements._KEPT,
    report_queries._DUE,
    report_queries._REPORTS,
    report_queries._FAILURES,
]


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_no_statement_walks_a_table(spool: SqliteSpool, tmp_path: Path, statement: str) -> None:
    """Whatever the backlog, each looks up the rows that it is about."""
    connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
    arguments = (schema.ids([1]), 2)[: statement.count("?2") + statement.count("?1")]
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)]
    connection.close()
    walks = [line for line in plan if line.startswith("SCAN") and line.split()[1] in schema.COLUMNS | {"failure": ()}]
    assert plan
    assert walks == []


async def test_a_failure_without_anybody_to_tell_is_no_report(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool)
    (one,) = await pull(spool)
    await spool.settle([Settlement(one.row)], [event(Kind.PERMANENT, one.id)])
    assert await spool.pull_reports(NOW + 1e6, 10) == []
    assert left(tmp_path) == {}
