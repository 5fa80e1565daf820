"""The composition root."""

from __future__ import annotations

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
    assert app.listener.addresses, "the spool was let go: it can be opened again"
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
