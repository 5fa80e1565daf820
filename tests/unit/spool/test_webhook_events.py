"""The events that webhooks are owed: kept once, handed out in order, the batch that is being sent as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import apsw
import pytest

from mcmt.errors import SpoolError, SpoolUnusable
from mcmt.spool.webhook_events import FILE, MAX_BYTES, Batch, Owed, StoredWebhookEvents

NOW = 1_700_000_000.0
LIMITS: Mapping[str, int] = {"a": 1000, "b": 10**9}


def owed(webhook: str, *numbers: int, size: int = 0) -> list[Owed]:
    return [Owed(webhook, NOW + number, b"%d" % number + b"." * size) for number in numbers]


def numbers(batch: Batch | None) -> list[int]:
    return [] if batch is None else [int(line.rstrip(b".")) for line in batch.lines]


def open_again(folder: Path, created: float = NOW) -> StoredWebhookEvents:
    return StoredWebhookEvents.open(folder, created)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoredWebhookEvents]:
    store = open_again(tmp_path)
    store.name(["a", "b"])
    yield store
    store.close()


def test_each_webhook_gets_its_own_in_order_and_what_was_taken_goes(store: StoredWebhookEvents) -> None:
    store.add(owed("a", 1, 2, 3) + owed("b", 4) + owed("unknown", 5), {"0": 9}, LIMITS)
    first = store.next("a", 0, 2)
    assert first is not None
    assert (numbers(first), first.oldest, first.newest) == ([1, 2], NOW + 1, NOW + 2)
    assert numbers(store.next("a", first.last, 2)) == [3]
    assert numbers(store.next("b", 0, 2)) == [4]
    standing = store.standing("a")
    assert (standing.events, standing.bytes, standing.sent, standing.dropped) == (1, 1, 2, 0)
    assert store.next("a", standing.sending, 2) is None
    assert (store.standing("a").events, store.standing("a").sent, store.standing("b").events) == (0, 3, 1)


def test_the_batch_that_is_being_sent_comes_again_as_it_was_also_after_a_crash(tmp_path: Path) -> None:
    store = open_again(tmp_path)
    store.name(["a"])
    store.add(owed("a", 1, 2), {"0": 1}, LIMITS)
    batch = store.next("a", 0, 9)
    store.add(owed("a", 3), {"0": 2}, LIMITS)
    assert store.next("a", 0, 9) == batch
    # Not closed: as it is after a kill.
    again = open_again(tmp_path)
    again.name(["a"])
    assert again.next("a", 0, 9) == batch
    assert again.progress() == {"0": 2}
    assert batch is not None
    assert numbers(again.next("a", batch.last, 9)) == [3]
    again.close()
    store.close()


def test_in_place_of_a_batch_that_is_too_large_a_smaller_one_is_made(store: StoredWebhookEvents) -> None:
    store.add(owed("a", *range(10)), {}, LIMITS)
    assert numbers(store.next("a", 0, 10)) == list(range(10))
    smaller = store.again("a", 5)
    assert numbers(smaller) == list(range(5))
    assert store.next("a", 0, 10) == smaller


def test_past_the_limit_the_oldest_go_and_are_counted(store: StoredWebhookEvents) -> None:
    store.add(owed("a", 0, 1, 2, size=299), {}, LIMITS)
    sending = store.next("a", 0, 2)
    assert numbers(sending) == [0, 1]
    assert store.add(owed("a", 3, size=299) + owed("b", 4, size=2000), {}, LIMITS) == {"a": 1}
    assert sending is not None
    assert store.floor("a") == sending.first
    standing = store.standing("a")
    assert (standing.events, standing.bytes, standing.dropped, standing.sending) == (3, 900, 1, 0)
    assert numbers(store.next("a", 0, 9)) == [1, 2, 3]
    # A receiver that takes after all what was being sent then.
    store.next("a", sending.last, 0)
    assert (store.standing("a").events, store.standing("a").sent) == (2, 1)


def test_a_batch_has_no_more_than_so_many_bytes_but_for_one_event(store: StoredWebhookEvents) -> None:
    third = MAX_BYTES // 3
    store.add(owed("b", 1, 2, 3, size=third) + owed("b", 4, size=2 * MAX_BYTES), {}, LIMITS)
    batch = store.next("b", 0, 100)
    assert numbers(batch) == [1, 2]
    assert batch is not None
    batch = store.next("b", batch.last, 100)
    assert numbers(batch) == [3]
    assert batch is not None
    assert numbers(store.next("b", batch.last, 100)) == [4]


def test_a_webhook_that_is_no_more_loses_what_waits_and_that_is_told(tmp_path: Path) -> None:
    """By the page, and what a crash leaves of it goes later."""
    store = open_again(tmp_path)
    store.name(["a", "b"])
    store.add(owed("a", *range(12_000)) + owed("b", 3), {}, {})
    assert store.name(["b", "c"]) == {"a": 12_000}
    assert not store.sweep()
    store.close()
    store = open_again(tmp_path)
    store.name(["b", "c"])
    assert [store.sweep() for _ in range(2)] == [False, True]
    assert store._connection.execute("SELECT count(*) FROM event").get == 1
    assert store.next("a", 0, 9) is None
    assert store.again("a", 9) is None
    assert store.name(["a", "b"]) == {}
    assert store.next("a", 0, 9) is None
    assert numbers(store.next("b", 0, 9)) == [3]
    store.close()


def test_numbers_of_a_file_that_was_made_anew_go_on_past_the_old_ones(tmp_path: Path) -> None:
    """The id of a request is made of them: a receiver would take new events for repeats."""
    seen = []
    for created in (NOW, NOW + 1):
        store = open_again(tmp_path, created)
        store.name(["a"])
        store.add(owed("a", *range(50)), {}, LIMITS)
        batch = store.next("a", 0, 1)
        assert batch is not None
        seen.append(batch.first)
        store.close()
        for file in tmp_path.glob("webhooks.sqlite*"):
            file.unlink()
    assert seen[1] > seen[0] + 50


def test_what_the_disk_refuses_changes_nothing(store: StoredWebhookEvents, tmp_path: Path) -> None:
    store.add(owed("a", 1), {"0": 1}, LIMITS)
    before = store.standing("a")
    store._connection.execute("PRAGMA max_page_count=1")
    with pytest.raises(SpoolError, match="free space"):
        store.add(owed("a", *range(2, 500), size=900), {"0": 2}, {})
    assert (store.standing("a"), store.progress()) == (before, {"0": 1})
    store._connection.execute("PRAGMA max_page_count=1000000")
    store.add(owed("a", 2), {"0": 2}, LIMITS)
    assert numbers(store.next("a", 0, 9)) == [1, 2]


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / FILE))
    other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(SpoolUnusable, match="another program"):
        open_again(tmp_path)
