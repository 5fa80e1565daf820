"""What cannot be read is moved to quarantine whole, with an event, and never stops the rest."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from mcmt.message.event import Kind
from mcmt.spool.port import Selection
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.unit.spool.samples import DOMAIN, NOW, accept, defer, events, finish, pull


def damage(folder: Path, *statements: str) -> None:
    connection = apsw.Connection(str(folder / "spool" / SHARD))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def quarantine(folder: Path) -> list[tuple[str, bytes]]:
    connection = apsw.Connection(str(folder / "spool" / SHARD), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute("SELECT source, statement FROM quarantine ORDER BY id").fetchall()
    connection.close()
    return rows  # type: ignore[return-value]  # as the schema has it


DELIVERY = [
    "UPDATE delivery SET data = CAST(x'ff00fe' AS TEXT) WHERE row = 2",
    "UPDATE delivery SET data = '[1]' WHERE row = 2",
    "UPDATE delivery SET data = replace(data, 'user2', CAST(x'c328' AS TEXT)) WHERE row = 2",
    "UPDATE delivery SET data = replace(data, '[2,0,', '[2,7,') WHERE row = 2",
    "UPDATE delivery SET message = 77 WHERE row = 2",
]


@pytest.mark.parametrize("statement", DELIVERY)
@pytest.mark.parametrize("way", ["fresh", "deferred", "released", "expired"])
async def test_a_damaged_delivery(spool: SqliteSpool, tmp_path: Path, statement: str, way: str) -> None:
    await accept(spool, 3)
    found = await pull(spool, limit=3) if way in ("deferred", "released") else []
    if way == "deferred":
        await defer(spool, found, NOW)
    damage(tmp_path, statement)
    spool.release([one.row for one in found])
    if way == "expired":
        got = list(await spool.pull_expired(NOW + 1e6, 10))
    else:
        got = await pull(spool)
    assert [one.number for one in got] == [1, 3]
    assert await spool.quarantined() == 1
    (told,) = [one for one in await events(spool) if one.kind == Kind.QUARANTINE]
    assert (told.domain, told.text[:15]) in [(DOMAIN, "delivery row 2 "), ("", "delivery row 2 ")]
    assert sum(one.deliveries for one in await spool.backlog()) == 2
    await finish(spool, got)
    assert await spool.domains() == []


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE message SET sender = '{}' WHERE id = {id}", "message"),
        ("UPDATE message SET sender = CAST(x'5b22ff' AS TEXT) WHERE id = {id}", "message"),
        ("UPDATE part SET head = '[1' WHERE id = {id}", "part"),
    ],
)
async def test_a_damaged_message_or_part(spool: SqliteSpool, tmp_path: Path, statement: str, table: str) -> None:
    first = await accept(spool)
    await accept(spool, 2)
    third = await accept(spool)
    damage(tmp_path, statement.replace("{id}", "2"))
    found = await pull(spool)
    assert [one.sender.batch_id for one in found] == [first, third]
    assert [source for source, _ in quarantine(tmp_path)] == [table, "delivery", "delivery"]
    assert len([one for one in await events(spool) if one.kind == Kind.QUARANTINE]) == 3
    await finish(spool, found)
    assert await pull(spool) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE message SET sender = '{}' WHERE id = 1", "DELETE FROM part WHERE id = 1"]
)
async def test_a_pull_that_damage_made_short_says_that_more_is_due(
    spool: SqliteSpool, tmp_path: Path, statement: str
) -> None:
    """Whoever got fewer than asked for, and no time to ask again, would believe that nothing waits."""
    for _ in range(5):
        await accept(spool)
    damage(tmp_path, statement)
    pulled = await spool.pull(DOMAIN, NOW, 3, 1000)
    assert len(pulled.deliveries) == 2
    assert pulled.next_due is not None
    assert pulled.next_due <= NOW


async def test_what_is_left_of_a_damaged_message_is_not_in_the_way(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 2, parts=3)
    damage(tmp_path, "UPDATE message SET sender = '{}'")
    assert await pull(spool) == []
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    await accept(again, parts=3)
    (found,) = await pull(again)
    for _, statement in quarantine(tmp_path):
        damage(tmp_path, statement.decode())
    await finish(again, [found])
    assert sum(one.deliveries for one in await again.backlog()) == 2
    await again.close()


async def test_a_row_in_quarantine_can_be_put_back_byte_for_byte(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool, 2)
    connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
    connection.execute("UPDATE delivery SET data = CAST(x'00ff2722' AS TEXT), last = 'it''s' WHERE row = 1")
    query = "SELECT row, message, domain, due, expires, attempts, CAST(data AS BLOB), last FROM delivery WHERE row = 1"
    before = connection.execute(query).fetchall()
    assert len(await pull(spool)) == 1
    assert connection.execute(query).fetchall() == []
    connection.execute(connection.execute("SELECT CAST(statement AS TEXT) FROM quarantine").get)
    assert connection.execute(query).fetchall() == before
    connection.close()


async def test_a_damaged_outbox_row(spool: SqliteSpool, tmp_path: Path) -> None:
    first = await accept(spool)
    await accept(spool)
    third = await accept(spool)
    damage(tmp_path, "UPDATE outbox SET events = x'93ff' WHERE sequence = (SELECT min(sequence) + 1 FROM outbox)")
    kept = await events(spool)
    assert [one.id for one in kept if one.kind == Kind.RECEPTION] == [f"{first}-1", f"{third}-1"]
    assert [one.kind for one in await events(spool)].count(Kind.QUARANTINE) == 1
    assert await spool.quarantined() == 1


async def test_an_outbox_of_nothing_but_damage_does_not_look_empty(spool: SqliteSpool, tmp_path: Path) -> None:
    for _ in range(3):
        await accept(spool)
    damage(tmp_path, "UPDATE outbox SET events = x'00'")
    assert {one.kind for one in await events(spool)} == {Kind.QUARANTINE}


async def test_listings_leave_out_what_cannot_be_read(spool: SqliteSpool, tmp_path: Path) -> None:
    batch = await accept(spool, 3)
    damage(tmp_path, DELIVERY[0])
    assert len(await spool.browse(Selection(), 0, 10)) == 2
    assert len(await spool.find(batch)) == 2
    damage(tmp_path, "UPDATE message SET sender = 'x'")
    assert (await spool.backlog())[0].oldest is None


async def test_a_domain_that_is_not_text_is_met_when_it_expires(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool)
    damage(tmp_path, "UPDATE delivery SET domain = CAST(x'ff' AS TEXT)")
    assert await spool.domains() == ["\ufffd"]
    assert await pull(spool, "\ufffd") == []
    assert await spool.pull_expired(NOW + 1e6, 10) == ()
    assert await spool.quarantined() == 1


async def test_damage_that_cannot_be_moved_stays_away(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accept(spool, 3)
    damage(tmp_path, DELIVERY[0], "ALTER TABLE quarantine RENAME TO elsewhere")
    assert [one.number for one in await pull(spool)] == [1, 3]
    assert await pull(spool) == []
    damage(tmp_path, "ALTER TABLE elsewhere RENAME TO quarantine")
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    assert [one.number for one in await pull(again)] == [1, 3]
    assert await again.quarantined() == 1
    await again.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (DELIVERY[0], ["", "{batch}"]),  # nothing is left of its number
        (DELIVERY[1], ["", "{batch}"]),  # nor to be believed
        (DELIVERY[2], ["{batch}-2", "{batch}"]),
        (DELIVERY[3], ["{batch}-2", "{batch}"]),
        (DELIVERY[4], ["", ""]),  # whose it is cannot be known
        ("UPDATE delivery SET domain = CAST(x'ff' AS TEXT) WHERE row = 2", ["{batch}-2", "{batch}"]),
    ],
)
async def test_the_event_names_the_delivery_as_far_as_it_can_be_known(
    spool: SqliteSpool, tmp_path: Path, statement: str, named: list[str]
) -> None:
    batch = await accept(spool, 3)
    damage(tmp_path, statement)
    await spool.pull_expired(NOW + 1e6, 10)
    (told,) = [one for one in await events(spool) if one.kind == Kind.QUARANTINE]
    assert [told.id, told.batch_id] == [name.format(batch=batch) for name in named]


async def test_a_message_in_quarantine_is_named_also_by_deliveries_that_follow_it_later(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    batch = await accept(spool, 2)
    await defer(spool, await pull(spool, limit=1), NOW + 60)
    await spool.close()
    damage(tmp_path, "UPDATE message SET sender = '{}'")
    again = await open_spool(tmp_path / "spool")
    assert await pull(again) + await pull(again, now=NOW + 61) == []
    told = [(one.id, one.batch_id) for one in await events(again) if one.kind == Kind.QUARANTINE]
    await again.close()
    assert told == [("", batch), (f"{batch}-2", batch), (f"{batch}-1", batch)]
