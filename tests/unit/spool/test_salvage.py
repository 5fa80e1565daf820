"""Damaged pages: whatever page of the file it is, what can be read is kept, and what is lost is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from mcmt.errors import SpoolUnusable
from mcmt.message.event import Event, Kind
from mcmt.spool.port import Settlement
from mcmt.spool.salvage import suspect
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from mcmt.spool.standing import Once
from tests.unit.spool.samples import DOMAIN, NOW, accept, deliveries, events, finish, message

MESSAGES = 150
PAGE = 4096
TABLES = ["message", "part", "delivery", "outbox", "quarantine", "report", "failure"]
INDEXES = [
    "delivery_due",
    "delivery_expires",
    "sqlite_autoindex_message_1",
    "report_due",
    "failure_report",
    "sqlite_sequence",
]


async def filled(folder: Path) -> dict[str, int]:
    """A closed spool; how many deliveries each batch has."""
    spool = await open_spool(folder)
    kept = {}
    for number in range(MESSAGES):
        kept[await accept(spool, 1 + number % 3, content=b"x" * (9000 if number % 50 == 7 else 300))] = 1 + number % 3
    await spool.close()
    return kept


def pages(file: Path, owner: str, kind: str) -> list[int]:
    connection = apsw.Connection(str(file))
    found: list[Any] = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path", (owner, kind)
    ).fetchall()
    connection.close()
    return [page for (page,) in found]


def overwrite(file: Path, page: int, content: bytes) -> None:
    with file.open("r+b") as handle:
        handle.seek((page - 1) * PAGE)
        handle.write(content)


async def drain(spool: SqliteSpool, done: set[str]) -> None:
    """Everything that can be pulled, settled; their ids into *done*."""
    while found := (await spool.pull(DOMAIN, NOW, 50, 1 << 30)).deliveries:
        await finish(spool, found)
        done |= {one.id for one in found}


async def use(folder: Path) -> tuple[set[str], list[str], list[str]]:
    """As the engine would, opening it again whenever it says that it is damaged: ids that were settled, ids and batch
    ids that the log is told of as quarantined, and the texts of that."""
    done: set[str] = set()
    named: list[str] = []
    texts: list[str] = []
    for _ in range(4):
        spool = await open_spool(folder)
        damage: list[bool] = []
        spool.on_damage(lambda damage=damage: damage.append(True))  # type: ignore[misc]
        try:
            await drain(spool, done)
            await accept(spool)
            await drain(spool, done)
            for one in await events(spool):
                if one.kind == Kind.QUARANTINE:
                    named += [one.id, one.batch_id]
                    texts.append(one.text)
            await spool.quarantined()
        except Exception:
            assert damage, "it refuses, and does not say that it is damaged"
        finally:
            await spool.close()
        if not damage:
            return done, named, texts
    raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("content", [b"\0" * PAGE, bytes(range(256)) * 16], ids=["zeros", "garbage"])
@pytest.mark.parametrize("owner", TABLES + INDEXES)
async def test_with_any_page_damaged_the_rest_is_delivered_and_the_lost_are_named(
    tmp_path: Path, owner: str, content: bytes
) -> None:
    kept = await filled(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    leaves = pages(file, owner, "leaf")
    everything = {f"{batch}-{number}" for batch, count in kept.items() for number in range(1, count + 1)}
    overwrite(file, leaves[len(leaves) // 2], content)
    done, named, texts = await use(tmp_path / "spool")
    lost = everything - done
    if owner in ("message", "part", "delivery"):
        assert 0 < len(lost) < 60, len(lost)
    else:
        assert not lost
    assert lost <= set(named) | {f"{batch}-{number}" for batch in named for number in (1, 2, 3)}, texts
    if owner == "outbox":
        assert any(text.startswith("outbox row") for text in texts)
    aside = list((tmp_path / "spool").glob("*.damaged-*"))
    if lost or owner in ("delivery_due", "outbox"):
        assert len(aside) == 1
    assert not suspect(file).exists()


@pytest.mark.parametrize("which", [0, -1])
async def test_the_first_and_the_last_page_of_the_deliveries(tmp_path: Path, which: int) -> None:
    kept = await filled(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    overwrite(file, pages(file, "delivery", "leaf")[which], b"\0" * PAGE)
    done, named, _ = await use(tmp_path / "spool")
    everything = {f"{batch}-{number}" for batch, count in kept.items() for number in range(1, count + 1)}
    assert len(everything - done) < 60
    assert everything - done <= set(named)


async def test_three_damaged_pages_of_one_table_cost_no_more_than_these(tmp_path: Path) -> None:
    await filled(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    for page in pages(file, "delivery", "leaf")[1::2][:3]:
        overwrite(file, page, b"\0" * PAGE)
    done, named, _ = await use(tmp_path / "spool")
    lost = {id_ for id_ in named if "-" in id_}
    assert len(done | lost) >= MESSAGES * 2
    assert len(lost) < 150


async def test_an_overflow_page_costs_its_own_message(tmp_path: Path) -> None:
    kept = await filled(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    overwrite(file, pages(file, "part", "overflow")[0], b"\xff" * PAGE)
    done, _, _ = await use(tmp_path / "spool")
    assert sum(kept.values()) - 3 <= len(done) - 1 <= sum(kept.values())


async def test_without_its_first_page_a_shard_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    await filled(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    overwrite(file, 1, b"\0" * PAGE)
    before = file.read_bytes()
    with pytest.raises(SpoolUnusable, match="restore the file from a backup"):
        await open_spool(tmp_path / "spool")
    assert file.read_bytes() == before


async def with_keys(folder: Path) -> list[str]:
    """A closed spool of messages with keys, of which half the deliveries have ended; their batch ids."""
    spool = await open_spool(folder)
    batches = []
    for number in range(MESSAGES):
        plain = message()
        kept = msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, protocol="http"))
        once = Once(f"key-{number}-{'x' * 60}", b"fingerprint")
        await spool.tracker.accept_once(once, kept, deliveries(2), [])
        batches.append(kept.batch_id)
    found = (await spool.pull(DOMAIN, NOW, MESSAGES, 1 << 30)).deliveries
    ends = [
        Event(kind=Kind.DELIVERY, time=NOW, id=one.id, batch_id=one.sender.batch_id, protocol="http", code="200")
        for one in found
    ]
    await spool.settle([Settlement(one.row) for one in found], ends)
    await spool.close()
    return batches


@pytest.mark.parametrize("owner", ["part", "tracked", "tracked_changed", "sqlite_autoindex_tracked_2", "ended"])
async def test_what_clients_may_ask_and_send_again_is_known_after_it(tmp_path: Path, owner: str) -> None:
    """A key that was forgotten would let the same message in once more."""
    batches = await with_keys(tmp_path / "spool")
    file = tmp_path / "spool" / SHARD
    leaves = pages(file, owner, "leaf")
    overwrite(file, leaves[len(leaves) // 2], bytes(range(256)) * 16)
    suspect(file).touch()
    spool = await open_spool(tmp_path / "spool")
    assert list((tmp_path / "spool").glob("*.damaged-*"))
    standings = [await spool.tracker.standing(batch, 0, 10) for batch in batches]
    keys = await spool.tracker.keys("key-")
    ended = sum(len(one.ended) for one in standings if one is not None)
    assert len(keys) == sum(one is not None for one in standings)
    assert len(keys) > MESSAGES * 3 // 4 if owner == "tracked" else len(keys) == MESSAGES
    assert ended > MESSAGES // 2 if owner in ("tracked", "ended") else ended == MESSAGES
    again = await spool.tracker.accept_once(next(iter(keys)), message(), deliveries(1), [])
    assert again.batch_id in batches
    await spool.close()
