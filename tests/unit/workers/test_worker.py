"""One worker, as its supervisor's calls find it."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from mcmt.app import worker
from mcmt.app.shards import Shards
from mcmt.spool.standing import Known
from mcmt.workers.life_words import Prepare, Swap


class Read:
    """What a configuration was read to."""

    def __init__(self, name: str) -> None:
        self.settings = self
        self.name = name
        self.file = "mcmt.yaml"


class Parts:
    """Doors and shards that only note what they go on by."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def prepare(self, settings: Read) -> Read:
        return settings

    def reload(self, prepared: Read) -> None:
        self.held.append(prepared.name)


async def test_it_goes_on_by_what_was_to_be_prepared_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two reloads the first one was given up, because another worker was being started; and it takes longer."""
    first_may_end, begun = threading.Event(), threading.Event()

    def load(_file: object, _channels: object, content: str, *, open_files: bool) -> Read:
        begun.set()
        assert not open_files
        assert content != "first" or first_may_end.wait(20)
        return Read(content)

    class Settled:
        def __init__(self, _settings: object) -> None:
            pass

    monkeypatch.setattr(worker, "load_settings", load)
    monkeypatch.setattr(worker, "changes_between", lambda _running, read: read)
    monkeypatch.setattr(worker, "Owners", Settled)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        app: Any = worker.WorkerApp(ours)
        app._settings, app._channels, app._keeper = Read("running"), {}, Parts()
        app.doors, app.shards = Parts(), Parts()
        first = asyncio.create_task(app._answer(Prepare("first")))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait, 20)
        second = asyncio.create_task(app._answer(Prepare("second")))  # type: ignore[arg-type]
        await asyncio.wait([second], timeout=0.2)
        first_may_end.set()
        await asyncio.gather(first, second)
        await app._answer(Swap())
        assert app.doors.held == app.shards.held == ["second"]


async def test_a_key_is_looked_for_in_every_shard_also_while_one_is_retired() -> None:
    known = Known("b", b"", "", 1, 0.0)

    class Tracker:
        def __init__(self, found: Known | None, *, is_retired: bool = False) -> None:
            self.found = found
            self.is_retired = is_retired

        async def known_by_key(self, key: str) -> Known | None:
            if self.is_retired:
                shards.all.remove(retired)
            return self.found

        async def standing(self, batch_id: str, after: int, limit: int) -> Known | None:
            return await self.known_by_key(batch_id)

    class Shard:
        def __init__(self, tracker: Tracker) -> None:
            self.spool = self
            self.tracker = tracker

    shards: Any = Shards.__new__(Shards)
    retired = Shard(Tracker(None, is_retired=True))
    for look in (shards.known_by_key, lambda key: shards.standing(key, 0, 1)):
        shards.all = [Shard(Tracker(None)), retired, Shard(Tracker(known))]
        assert await look("key") is known
