"""The composition root."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcmt.app import App, load_channels, load_settings

CONFIG = """
hostname: mx.example.com
spool: {path: spool}
esmtp_listener: {listen: {"127.0.0.1:0": {}}}
domain:
  sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "mcmt.yaml").write_text(CONFIG)
    channels = load_channels()
    return App(load_settings(tmp_path / "mcmt.yaml", channels).settings, channels)


async def test_what_fails_to_close_leaves_nothing_else_open(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(limit: float) -> None:
        raise ValueError("a bug")

    await app.start()
    monkeypatch.setattr(app.shards.own.engine, "drain", fail)
    await app.stop()
    await app.start()
    assert app.doors.addresses, "the spool was let go: it can be opened again"
    monkeypatch.undo()
    await app.stop()


async def test_a_start_that_fails_leaves_nothing_open(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcmt.errors import ListenError
    from mcmt.intake.listener import SmtpListener

    async def refuse(listener: SmtpListener) -> None:
        raise ListenError("127.0.0.1:0 cannot be listened on")

    monkeypatch.setattr(SmtpListener, "start", refuse)
    with pytest.raises(ListenError):
        await app.start()
    monkeypatch.undo()
    await app.start()
    await app.stop()


async def test_a_shard_left_over_from_more_workers_is_logged_and_then_removed(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood in its outbox has its lines; when the file is gone, nothing is remembered of it."""
    from mcmt.app import shards
    from mcmt.message.event import Event, Kind
    from mcmt.spool.log_memory import StoredLogMemory
    from mcmt.spool.sqlite import SqliteSpool
    from mcmt.spool.state import StateStore

    monkeypatch.setattr(shards, "LOOK", 0.01)
    old = await SqliteSpool.open(tmp_path / "spool", shard=1)
    await old.record([Event(kind=Kind.ROUTE, time=1_700_000_000.0, domain="sink.example.com", text="of shard 1")])
    await old.close()
    await app.start()
    async with asyncio.timeout(10):
        while (tmp_path / "spool" / "shard-1.sqlite").exists():
            await asyncio.sleep(0.02)
    await app.stop()
    (line,) = (tmp_path / "spool" / "mainlog.ec").read_text().splitlines()
    assert line.endswith("of shard 1")
    state = StateStore.open(tmp_path / "spool")
    assert all("1" not in remembered.cursors for remembered in StoredLogMemory(state).load().values())
    state.close()
