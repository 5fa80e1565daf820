"""The control socket: who may have it, how many, and what a bad client can do."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import cast

import pytest

from mcmt.control import server, session
from mcmt.control.answers import Answers
from mcmt.control.client import ControlClient
from mcmt.control.protocol import MAX_LINE, End
from mcmt.errors import ControlError
from mcmt.spool.sqlite import SqliteSpool
from tests.unit.control.stand_ins import Running, running


async def test_only_its_owner_may_connect(control: Running) -> None:
    status = control.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


async def test_the_socket_goes_with_the_engine_and_nothing_is_left(tmp_path: Path, spool: SqliteSpool) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    async with running(folder / "control.sock", spool):
        assert [entry.name for entry in folder.iterdir()] == ["control.sock"]
    assert not list(folder.iterdir())


async def test_the_socket_of_a_dead_engine_is_replaced(tmp_path: Path, spool: SqliteSpool) -> None:
    path = tmp_path / "control.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with running(path, spool) as control:
        assert (await (await control.client()).answer())["type"] == "hello"


async def test_the_socket_of_a_living_engine_is_left_alone(control: Running, spool: SqliteSpool) -> None:
    with pytest.raises(ControlError, match=f"{control.path}: another engine answers there"):
        async with running(control.path, spool):
            pass
    assert (await (await control.client()).answer())["type"] == "hello"


async def test_what_is_no_socket_is_left_alone(tmp_path: Path, spool: SqliteSpool) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ControlError, match=f"{path}: is there and is no socket"):
        async with running(path, spool):
            pass
    assert path.read_text() == "precious"


async def test_a_folder_that_is_missing_is_named(tmp_path: Path, spool: SqliteSpool) -> None:
    path = tmp_path / "nowhere" / "control.sock"
    with pytest.raises(ControlError, match=f"{path}: the control socket cannot be made: No such file"):
        async with running(path, spool):
            pass


async def test_an_engine_that_ends_leaves_the_socket_of_the_one_started_since(
    tmp_path: Path, spool: SqliteSpool
) -> None:
    path = tmp_path / "control.sock"
    async with running(path, spool):
        path.unlink()
        newer = socket.socket(socket.AF_UNIX)
        newer.bind(str(path))
    assert path.exists()
    newer.close()


async def test_a_path_longer_than_the_system_takes_works(tmp_path: Path, spool: SqliteSpool) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "control.sock"
    async with running(path, spool):
        assert stat.S_ISSOCK(path.stat().st_mode)
        with await asyncio.to_thread(ControlClient, path) as client:
            assert client.hello.pid == os.getpid()


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b'{"do":"reboot"}\n', b'{"do":"queue","limit":"many"}\n', b"[" * 5000 + b"\n", b"\xff\n"],
    ids=["no JSON", "unknown", "wrong type", "deep", "no UTF-8"],
)
async def test_what_is_no_request_is_refused_by_name(control: Running, line: bytes) -> None:
    client = await control.client()
    await client.answer()
    client.writer.write(line)
    assert (await client.answer())["code"] == "bad_request"
    assert await client.answer() == {}


async def test_a_line_without_end_is_refused(control: Running) -> None:
    client = await control.client()
    await client.answer()
    client.writer.write(b"x" * (MAX_LINE + 10))
    failed = await client.answer()
    assert (failed["code"], str(MAX_LINE) in failed["text"]) == ("bad_request", True)


async def test_more_clients_than_allowed_are_told_so(control: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLIENTS", 3)
    for _ in range(3):
        assert (await (await control.client()).answer())["type"] == "hello"
    late = await control.client()
    assert (await late.answer())["type"] == "hello"
    assert (await late.answer())["code"] == "busy"
    assert await late.answer() == {}


async def test_a_client_that_asks_nothing_is_let_go(control: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REQUEST_TIMEOUT", 0.05)
    client = await control.client()
    await client.answer()
    assert await client.answer() == {}


async def test_a_client_that_reads_nothing_is_let_go(
    control: Running, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "WRITE_TIMEOUT", 0.05)
    monkeypatch.setattr(session, "LINGER", 0.05)
    control.engine.domains = [{"domain": f"{number}.example.com", "route": "r" * 10_000} for number in range(1000)]
    client = await control.client()
    await client.ask({"do": "status"})
    serving = [task for task in asyncio.all_tasks() if "ControlServer._serve" in repr(task.get_coro())]
    await asyncio.wait(serving, timeout=5)
    # All that the server wrote is what the sockets' buffers took.
    taken = 0
    while data := await client.reader.read(1 << 20):
        taken += len(data)
    assert 0 < taken < 10_000_000


async def test_clients_are_told_when_the_engine_stops(tmp_path: Path, spool: SqliteSpool) -> None:
    async with running(tmp_path / "control.sock", spool) as control:
        client = await control.client()
        await client.answer()
        await client.ask({"do": "queue", "limit": 0})
        await client.answers()
        await control.server.close()
        assert (await client.answer())["code"] == "stopping"


async def test_an_engine_that_stops_while_a_client_does_not_read_its_last_words_stops_quietly(
    tmp_path: Path, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session, "WRITE_TIMEOUT", 0.05)
    async with running(tmp_path / "control.sock", spool) as control:
        control.engine.domains = [{"domain": f"{number}.example.com", "route": "r" * 10_000} for number in range(1000)]
        client = await control.client()
        await client.ask({"do": "status"})
        (serving,) = [task for task in asyncio.all_tasks() if "ControlServer._serve" in repr(task.get_coro())]
        # By then it waits for the client to take what is left of the answer.
        await asyncio.wait([serving], timeout=0.2)
        await control.server.close()
        assert serving.done()
    assert caplog.text == ""


async def test_a_word_to_a_client_that_has_gone_is_no_error(control: Running, caplog: pytest.LogCaptureFixture) -> None:
    """On uvloop a write to a closed transport raises, between the close and its notice."""
    client = await control.client()
    talk = session.Session(
        client.reader, client.writer, cast("Answers", None), cast("session.EventLog", None), ledger="main"
    )
    client.writer.transport.abort()
    talk.send(End())
    await talk.hang_up()
    talk.send(End())
    assert caplog.text == ""
