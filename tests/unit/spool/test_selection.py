"""Deliveries that are selected: counted, taken by row, held and moved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mcmt.message.event import Kind
from mcmt.spool.port import Arrived, Change, Selection, Settlement
from mcmt.spool.sqlite import SqliteSpool, open_spool

from .samples import NOW, PLENTY, accept, event

A, B = "a.example", "b.example"


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a handful of deliveries makes several of them."""
    monkeypatch.setattr("mcmt.spool.listing.WINDOW", 4)


@pytest.fixture
async def filled(spool: SqliteSpool) -> SqliteSpool:
    """Three messages of three deliveries for A, one of two for B."""
    for number in range(3):
        await accept(spool, 3, A, received=NOW + number)
    await accept(spool, 2, B, received=NOW + 3)
    return spool


async def tallied(spool: SqliteSpool, selection: Selection) -> dict[str, tuple[int, int, int]]:
    """Deliveries, messages and held ones by domain, over all windows."""
    sums: dict[str, tuple[int, int, int]] = {}
    final: dict[str, int] = {}
    after: int | None = 0
    through = 0
    while after is not None:
        page = await spool.tally(selection, after, through)
        after, through = page.after, page.through
        for one in page.domains:
            before = sums.get(one.domain, (0, 0, 0))
            twice = final.get(one.domain) == one.first
            final[one.domain] = one.last
            sums[one.domain] = (before[0] + one.deliveries, before[1] + one.messages - twice, before[2] + one.held)
    return sums


async def chosen(spool: SqliteSpool, selection: Selection, limit: int = 100) -> dict[int, str]:
    """All rows that are selected."""
    found: dict[int, str] = {}
    after: int | None = 0
    while after is not None:
        page = await spool.choose(selection, after, PLENTY, limit)
        found |= page.domains
        after = page.after
    return found


async def pulled(spool: SqliteSpool, domain: str) -> list[str]:
    """Recipients of what is due, which is put back."""
    deliveries = (await spool.pull(domain, NOW + 10, 100, PLENTY)).deliveries
    spool.release([one.row for one in deliveries])
    return [one.recipient for one in deliveries]


async def test_a_selection_is_counted_over_its_windows_with_each_message_once(filled: SqliteSpool) -> None:
    assert await tallied(filled, Selection()) == {A: (9, 3, 0), B: (2, 1, 0)}
    assert await tallied(filled, Selection(domain=B)) == {B: (2, 1, 0)}
    assert await tallied(filled, Selection(recipient=f"USER2@{A}")) == {A: (3, 3, 0)}
    assert await tallied(filled, Selection(token=f"{1:064X}")) == {A: (3, 3, 0), B: (1, 1, 0)}
    assert await tallied(filled, Selection(received_before=NOW + 1)) == {A: (3, 1, 0)}
    assert await tallied(filled, Selection(domain=A, token=f"{1:064x}", received_before=NOW + 1)) == {A: (1, 1, 0)}


async def test_ids_name_deliveries_and_whole_messages(filled: SqliteSpool) -> None:
    entries = [entry for _, entry in await filled.browse(Selection(), 0, 100)]
    batch = entries[3].id.partition("-")[0]
    assert await tallied(filled, Selection(ids=(entries[0].id, batch))) == {A: (4, 2, 0)}
    assert await tallied(filled, Selection(ids=(batch,), recipient=f"user1@{A}")) == {A: (1, 1, 0)}
    assert await tallied(filled, Selection(ids=(f"{batch}-9", "0" * 24))) == {}
    listed = await filled.browse(Selection(ids=(batch,)), 0, 100)
    assert [entry.id for _, entry in listed] == [f"{batch}-{number}" for number in (1, 2, 3)]


async def test_the_last_answer_selects_in_whatever_case(filled: SqliteSpool) -> None:
    first, second = (await filled.pull(A, NOW, 2, PLENTY)).deliveries
    await filled.settle(
        [
            Settlement(first.row, NOW + 60, 1, "503 ServiceUnavailable"),
            Settlement(second.row, NOW + 60, 1, "429 TooManyRequests"),
        ],
        [],
    )
    assert list(await chosen(filled, Selection(last_error="serviceunavailable"))) == [first.row]


async def test_listings_and_choices_come_in_pages_that_lack_nothing(filled: SqliteSpool) -> None:
    rows = await chosen(filled, Selection(domain=A), limit=2)
    assert len(rows) == 9
    assert set(rows.values()) == {A}
    entries = await filled.browse(Selection(domain=B), 0, 1)
    assert [entry.recipient for _, entry in entries] == [f"user1@{B}"]
    assert len(await filled.browse(Selection(domain=B), entries[-1][0], 1)) == 1


async def test_what_came_after_the_count_is_not_chosen(filled: SqliteSpool) -> None:
    through = (await filled.tally(Selection(), 0, 0)).through
    await accept(filled, 1, A)
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page = await filled.choose(Selection(domain=A), after, through, 100)
        found += page.domains
        after = page.after
    assert len(found) == 9


async def test_what_is_out_is_not_taken_and_what_is_taken_is_out(filled: SqliteSpool) -> None:
    out = (await filled.pull(A, NOW, 2, PLENTY)).deliveries
    rows = await chosen(filled, Selection(domain=A))
    taken = await filled.take(rows)
    assert (len(taken.deliveries), taken.busy) == (7, 2)
    assert not {one.row for one in out} & {one.row for one in taken.deliveries}
    assert {one.part.content for one in taken.deliveries} == {b""}, "nobody reads bodies to move or end deliveries"
    assert await pulled(filled, A) == []
    filled.release([one.row for one in taken.deliveries])
    again = (await filled.pull(A, NOW, 100, PLENTY)).deliveries
    assert len(again) == 7
    assert {one.part.content for one in again} == {b'{"aps":{}}'}


async def test_a_row_of_another_domain_by_now_is_not_taken(filled: SqliteSpool) -> None:
    rows = await chosen(filled, Selection(domain=A))
    assert (await filled.take(dict.fromkeys(rows, B))).deliveries == ()


async def hold(spool: SqliteSpool, selection: Selection, verb: str = "hold", domain: str = "") -> None:
    taken = await spool.take(await chosen(spool, selection))
    change = Change(verb, NOW, domain)  # type: ignore[arg-type]  # a test's own word
    await spool.change([one.row for one in taken.deliveries], change, [event(Kind.ROUTE, verb)])


async def test_held_deliveries_are_not_due_over_a_restart_and_expire(tmp_path: Path) -> None:
    spool = await open_spool(tmp_path / "held")
    await accept(spool, 3, A)
    await hold(spool, Selection(domain=A, recipient=f"user2@{A}"))
    assert await pulled(spool, A) == [f"user1@{A}", f"user3@{A}"]
    await spool.close()
    spool = await open_spool(tmp_path / "held")
    answer = await spool.pull(A, NOW + 1e9, 100, PLENTY)
    assert [one.recipient for one in answer.deliveries] == [f"user1@{A}", f"user3@{A}"]
    assert answer.next_due is None
    (backlog,) = await spool.backlog()
    assert (backlog.deliveries, backlog.held) == (3, 1)
    page = await spool.ids(0, 100, NOW)
    assert page is not None
    assert (len(page.due), len(page.waiting), len(page.held)) == (2, 0, 1)
    entries = [entry for _, entry in await spool.browse(Selection(held=True), 0, 10)]
    assert [(entry.recipient, entry.held, entry.due) for entry in entries] == [(f"user2@{A}", True, 0.0)]
    dead = await spool.pull_expired(NOW + 1e9, 10)
    assert [one.recipient for one in dead] == [f"user2@{A}"], "the others are out"
    await spool.close()


async def test_released_deliveries_are_as_due_as_before_also_behind_and_past_the_cursors(spool: SqliteSpool) -> None:
    await accept(spool, 4, A)
    first = (await spool.pull(A, NOW, 1, PLENTY)).deliveries[0]
    await spool.settle([Settlement(first.row, NOW + 5, 1, "503")], [])
    await hold(spool, Selection(domain=A))
    assert await pulled(spool, A) == [], "a walk to the end, past all of them"
    await accept(spool, 1, A)
    await hold(spool, Selection(held=True), "release")
    assert (await spool.pull(A, NOW, 100, PLENTY)).next_due == NOW + 5
    spool.release(range(1, 100))
    assert sorted(await pulled(spool, A)) == [f"user{n}@{A}" for n in (1, 1, 2, 3, 4)]
    await hold(spool, Selection(held=True), "release")
    assert len(await pulled(spool, A)) == 5, "there is nothing to release: they are as they were"


async def test_what_is_released_is_not_overtaken_by_what_is_handed_over(spool: SqliteSpool) -> None:
    """Its row is past the cursor: what comes next must not go by it as if nothing waited."""

    def take_all(arrived: Mapping[str, Arrived]) -> None:
        for one in arrived.values():
            one.take(10, PLENTY)

    await accept(spool, 1, A)
    await hold(spool, Selection())
    assert await pulled(spool, A) == [], "nothing waits: what comes next may be taken as it comes"
    await hold(spool, Selection(), "release")
    spool.on_due(take_all)
    await accept(spool, 1, A)
    spool.release([2])
    assert len(await pulled(spool, A)) == 2


async def test_a_retry_makes_due_what_waits_and_leaves_alone_what_is_held(spool: SqliteSpool) -> None:
    await accept(spool, 3, A)
    batch = (await spool.pull(A, NOW, 3, PLENTY)).deliveries
    await spool.settle([Settlement(one.row, NOW + 600, 1, "503") for one in batch], [])
    await hold(spool, Selection(recipient=f"user1@{A}"))
    assert await pulled(spool, A) == []
    await hold(spool, Selection(recipient=f"user1@{A}"), "retry")
    await hold(spool, Selection(recipient=f"user2@{A}"), "retry")
    assert await pulled(spool, A) == [f"user2@{A}"]


async def test_rerouted_deliveries_are_the_other_domains_with_their_due_times(spool: SqliteSpool) -> None:
    await accept(spool, 3, A)
    await accept(spool, 1, B)
    assert len(await pulled(spool, B)) == 1, "the cursor of B is past the rows of A"
    await hold(spool, Selection(recipient=f"user3@{A}"))
    await hold(spool, Selection(domain=A), "reroute", B)
    assert await pulled(spool, A) == []
    assert sorted(await pulled(spool, B)) == [f"user1@{A}", f"user1@{B}", f"user2@{A}"]
    assert [entry.domain for _, entry in await spool.browse(Selection(held=True), 0, 10)] == [B]


async def test_a_damaged_row_ends_no_selection(filled: SqliteSpool) -> None:
    from mcmt.spool.schema import open_writer

    path = filled._commits._writer._connection.filename
    other = open_writer(Path(path), 0.0)
    other.execute("UPDATE delivery SET data = '[broken' WHERE row = 2")
    other.execute("UPDATE message SET sender = '{' WHERE row = 1")
    other.close()
    assert await tallied(filled, Selection(token=f"{1:064x}")) == {A: (3, 3, 0), B: (1, 1, 0)}
    assert await tallied(filled, Selection(received_before=NOW + 2)) == {A: (3, 1, 0)}
