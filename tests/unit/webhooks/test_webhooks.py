"""Webhooks as the event log has them: events go in by the row, and to receivers on real sockets."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcmt.clock import SystemClock
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.errors import SpoolError
from mcmt.message.event import Event, Kind, OutboxRow
from mcmt.spool.webhook_events import FILE, StoredWebhookEvents
from mcmt.webhooks.webhooks import Webhooks
from tests.support.webhook_receiver import SECRET, Receiver, Reply, receiver

OTHER_SECRET = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
MANUAL = Path(__file__).parents[3] / "docs" / "webhooks.md"


class Behind:
    """What stands behind it among the tables of the event log."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.saves = 0

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        self.taken += [row.sequence for row in rows]

    def save(self) -> None:
        self.saves += 1


class Bench:
    """Webhooks on a folder, and what they told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.behind = Behind()
        self.webhooks = Webhooks(self.behind, folder, SystemClock(), lambda: 0.5, self.told.append)

    async def log(self, first: int, count: int, *, size: int = 0) -> None:
        """Rows of one delivery each, read and saved as by the event log."""
        rows = [
            OutboxRow(
                number,
                (Event(kind=Kind.DELIVERY, time=time.time(), id=f"d-{number}", domain="d", text="." * size),),
            )
            for number in range(first, first + count)
        ]
        self.webhooks.take("0", rows)
        await asyncio.to_thread(self.webhooks.save)

    def status(self, name: str = "a") -> Any:
        return next(each for each in self.webhooks.status() if each.name == name)


@asynccontextmanager
async def bench(folder: Path, *settings: WebhookSettings) -> AsyncIterator[Bench]:
    it = Bench(folder)
    await it.webhooks.open(settings)
    it.webhooks.start()
    try:
        yield it
    finally:
        await it.webhooks.stop()


def to(it: Receiver | str, name: str = "a", **options: Any) -> WebhookSettings:
    fast = {"batch_wait": 0.02, "retry_interval": 0.02, "max_retry_interval": 0.1, "secret": (SECRET,)}
    url = it if isinstance(it, str) else it.url
    return WebhookSettings(name=name, url=url, **{**fast, **options})


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def ids(it: Receiver) -> list[str]:
    return [event["id"] for event in it.taken]


def expected(first: int, count: int) -> list[str]:
    return [f"d-{number}" for number in range(first, first + count)]


async def test_batches_are_full_or_have_waited_and_a_row_that_is_read_again_is_sent_once(tmp_path: Path) -> None:
    with receiver() as peer:
        async with bench(tmp_path, to(peer, batch_size=4)) as it:
            await it.log(1, 10)
            await it.log(5, 8)
            await until(lambda: len(peer.taken) == 12)
            assert ids(peer) == expected(1, 12)
            assert max(len(request.events) for request in peer.requests) == 4
            assert it.behind.taken == [*range(1, 11), *range(5, 13)]
            assert it.behind.saves == 2
            assert len({event["event_id"] for event in peer.taken}) == 12
        # As after a crash: read again by the next process, though it was acknowledged.
        async with bench(tmp_path, to(peer)) as it:
            await it.log(1, 14)
            await until(lambda: len(peer.taken) >= 14)
            assert ids(peer) == expected(1, 14)


async def test_a_repeat_has_the_same_id_and_body_and_a_time_of_its_own(tmp_path: Path) -> None:
    answers = [Reply(500), Reply(429, {"Retry-After": "1"}), Reply(200)]
    with receiver(lambda number: answers[min(number, 2)]) as peer:
        async with bench(tmp_path, to(peer)) as it:
            begun = time.monotonic()
            await it.log(1, 3)
            await until(lambda: peer.taken)
            assert time.monotonic() - begun >= 1.0, "Retry-After is honoured"
            assert len({(request.id, request.body) for request in peer.requests}) == 1
            assert peer.requests[2].fields["webhook-timestamp"] > peer.requests[0].fields["webhook-timestamp"]
            await until(lambda: it.status().state == "up")
            assert it.status().failures == 2
            assert len(it.told) == 2, "one warning, and that it is well again"


async def test_every_secret_signs(tmp_path: Path) -> None:
    """The receiver's own check is of one of them: whoever has the old or the new one believes the request."""
    for secret in (SECRET, OTHER_SECRET):
        with receiver(secret=secret) as peer:
            async with bench(tmp_path / secret[-8:], to(peer, secret=(SECRET, OTHER_SECRET))) as it:
                await it.log(1, 1)
                await until(lambda: peer.taken)
                assert len(peer.requests[0].fields["webhook-signature"].split()) == 2


async def test_too_large_is_halved_until_it_is_taken_and_nothing_is_skipped(tmp_path: Path) -> None:
    with receiver() as peer:
        peer.script = lambda number: Reply(413 if len(peer.last_body) > 700 else 204)
        async with bench(tmp_path, to(peer, batch_size=64)) as it:
            await it.log(1, 64)
            await until(lambda: len(peer.taken) == 64)
            assert ids(peer) == expected(1, 64)
            refused = [request for request in peer.requests if request.status == 413]
            assert len(refused) <= 6, "it stays with the size that was taken"


async def test_gone_switches_off_until_it_is_reloaded_and_what_comes_waits(tmp_path: Path) -> None:
    with receiver(lambda number: Reply(204 if number else 410)) as peer:
        async with bench(tmp_path, to(peer)) as it:
            await it.log(1, 2)
            await until(lambda: it.status().state == "off")
            await it.log(3, 2)
            await asyncio.sleep(0.3)
            assert (len(peer.requests), it.status().events) == (1, 4)
            assert len(it.told) == 1
            assert "switched off" in it.told[0]
            await it.webhooks.reload([to(peer)])
            await until(lambda: len(peer.taken) == 4)


async def test_past_the_limit_the_oldest_are_dropped_with_one_warning_and_a_count(tmp_path: Path) -> None:
    answers = {"status": 503}
    with receiver(lambda number: Reply(answers["status"])) as peer:
        async with bench(tmp_path, to(peer, batch_size=2, max_queue_size=1024**2)) as it:
            await it.log(1, 4)
            await until(lambda: peer.requests)
            for first in range(5, 305, 100):
                await it.log(first, 100, size=10_000)
            status = it.status()
            assert status.bytes <= 1024**2
            assert status.events + status.dropped == 304
            assert [line for line in it.told if "max_queue_size" in line] == [
                "webhook a: more than 1048576 bytes of events wait (max_queue_size), and the oldest are dropped from "
                "now on; mcmt status counts them"
            ]
            answers["status"] = 200
            await until(lambda: it.status().events == 0)
            # In order, and those that are missing are the oldest.
            assert ids(peer) == expected(305 - len(peer.taken), len(peer.taken))
            assert it.status().dropped == 304 - len(peer.taken)


async def test_a_slow_webhook_does_not_delay_another(tmp_path: Path) -> None:
    with receiver(lambda number: None) as slow, receiver() as fast:
        async with bench(tmp_path, to(slow, "slow", timeout=30.0), to(fast, "fast")) as it:
            await it.log(1, 1)
            await until(lambda: slow.requests)
            await it.log(2, 5)
            await until(lambda: len(fast.taken) == 6)
            assert it.status("slow").events == 6
            slow.release()


async def test_while_its_file_refuses_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event log asks again, and remembers nothing in the meantime."""
    with receiver() as peer:
        async with bench(tmp_path, to(peer)) as it:
            with monkeypatch.context() as patch:

                def refuse(*_: object) -> None:
                    raise SpoolError("the disk is full")

                patch.setattr(StoredWebhookEvents, "add", refuse)
                with pytest.raises(SpoolError):
                    await it.log(1, 3)
            await it.log(4, 1)
            await until(lambda: len(peer.taken) == 4)
            assert ids(peer) == expected(1, 4)


async def test_where_it_cannot_be_written_down_what_was_taken_it_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as peer:
        async with bench(tmp_path, to(peer)) as it:
            original = StoredWebhookEvents.next
            refusals: list[int] = []

            def refuse(self: StoredWebhookEvents, webhook: str, taken: int, size: int) -> object:
                if taken and len(refusals) < 3:
                    refusals.append(taken)
                    raise SpoolError("the disk is full")
                return original(self, webhook, taken, size)

            monkeypatch.setattr(StoredWebhookEvents, "next", refuse)
            await it.log(1, 2)
            await until(lambda: it.status().events == 0)
            assert len(refusals) == 3
            assert len(peer.requests) == 1
            assert "the disk is full" in it.told[0]


async def test_stopping_sends_what_is_taken_at_once(tmp_path: Path) -> None:
    with receiver() as peer:
        async with bench(tmp_path, to(peer, batch_wait=60.0, batch_size=5)) as it:
            await it.log(1, 12)
        assert ids(peer) == expected(1, 12)


async def test_without_a_webhook_nothing_is_opened_and_the_events_of_one_that_was_removed_go(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.log(1, 3)
        assert it.behind.taken == [1, 2, 3]
    assert not (tmp_path / FILE).exists()
    async with bench(tmp_path, to("http://localhost:1/")) as it:
        await it.log(4, 3)
    async with bench(tmp_path) as it:
        assert it.told == ["webhook a: is no more, and 3 events that waited for it are dropped"]
        assert it.webhooks.status() == ()


async def test_the_receiver_in_the_manual_verifies_and_drops_repeats(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", MANUAL.read_text("utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "receiver.py").write_text(code[1].replace("serve_forever()", "serve_forever(0.05)"))
    (tmp_path / "webhook-shop").write_text(SECRET + "\n")
    with receiver() as reserved:
        port = reserved.port
    process = subprocess.Popen(  # noqa: ASYNC220 - a receiver, for as long as the test
        [sys.executable, "-u", "receiver.py", str(port)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = f"http://localhost:{port}/"
    try:
        async with bench(tmp_path, to(url, "good"), to(url, "again"), to(url, "bad", secret=(OTHER_SECRET,))) as it:
            await it.log(1, 3)
            await until(lambda: it.status("good").sent == it.status("again").sent == 3)
            await until(lambda: it.status("bad").reason == "answered 401")
    finally:
        process.kill()
        said, _ = process.communicate()
    # Three are one receiver's: two send the same events, and one is not believed.
    assert [line.split()[:2] for line in said.splitlines()] == [[f"0-{number}-0", "delivered"] for number in (1, 2, 3)]
