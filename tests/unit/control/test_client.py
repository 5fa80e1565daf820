"""A command's end of the control socket, when there is no engine, or one that misbehaves."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcmt.control import server
from mcmt.control.client import ControlClient
from mcmt.control.protocol import EngineStatus, Follow, Queue, Status
from mcmt.errors import ControlError
from mcmt.spool.port import Entry
from mcmt.spool.sqlite import SqliteSpool
from tests.unit.control.stand_ins import Running, message

Say = Callable[..., Path]


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Say]:
    """A peer that says these bytes to whoever connects, and listens no longer when the test is over."""
    listening = socket.socket(socket.AF_UNIX)
    path = tmp_path / "peer.sock"
    listening.bind(str(path))
    listening.listen()
    taken: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def speak(words: bytes, hang_up: bool) -> None:
        connection, _ = listening.accept()
        taken.append(connection)
        connection.sendall(words)
        if hang_up:
            connection.shutdown(socket.SHUT_RDWR)

    def start(words: bytes, *, hang_up: bool = False) -> Path:
        threads.append(threading.Thread(target=speak, args=(words, hang_up)))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(5)
    for each in (*taken, listening):
        each.close()


HELLO = b'{"type":"hello","protocol":1,"version":"9.9","pid":1,"since":"later"}\n'


def test_without_an_engine_it_is_said_what_to_start(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with pytest.raises(ControlError, match=f"{path}: no engine answers there: start one with mcmt serve"):
        ControlClient(path)


def test_a_socket_that_a_dead_engine_left_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(ControlError, match="no engine answers there"):
        ControlClient(path)


def test_an_engine_of_another_protocol_is_refused_by_its_version(say: Say) -> None:
    path = say(b'{"type":"hello","protocol":2,"version":"9.9","pid":1}\n')
    with pytest.raises(ControlError, match=r"the engine is mcmt 9\.9 and speaks protocol 2"):
        ControlClient(path)


def test_what_is_no_engine_is_said_to_be_none(say: Say) -> None:
    with pytest.raises(ControlError, match="is not an engine of this version"):
        ControlClient(say(b"220 mx.example.com ESMTP\n"))


def test_an_engine_that_says_nothing_is_not_waited_for_for_ever(say: Say) -> None:
    with pytest.raises(ControlError, match=r"did not answer within 0\.05 s"):
        ControlClient(say(b""), 0.05)


def test_fields_of_a_later_version_are_skipped(say: Say) -> None:
    with ControlClient(say(HELLO)) as client:
        assert client.hello.version == "9.9"


def test_an_answer_cut_off_is_an_error_and_not_an_end(say: Say) -> None:
    path = say(HELLO + b'{"type":"item","item":{"n":1}}\n{"type":"it', hang_up=True)
    with ControlClient(path) as client:
        items = client.ask_raw(Status())
        assert next(items) == b'{"n":1}'
        with pytest.raises(ControlError, match="hung up in the middle of its answer"):
            next(items)


def test_nothing_new_is_none_and_following_goes_on(say: Say) -> None:
    with ControlClient(say(HELLO + b'{"type":"begun"}\n')) as client:
        client.follow(Follow())
        assert client.next_line(0.01) is None
        assert client.next_line(0.01) is None


async def test_items_come_as_values(control: Running, spool: SqliteSpool) -> None:
    made, new = message(1, control.clock.time(), deliveries=2)
    await spool.accept(made, new, ())

    def command() -> tuple[EngineStatus, list[Entry]]:
        with ControlClient(control.path) as client:
            engine = next(client.ask(Status(), EngineStatus))
        with ControlClient(control.path) as client:
            return engine, list(client.ask(Queue(), Entry))

    engine, entries = await asyncio.to_thread(command)
    assert engine.queued == 2
    assert [entry.id for entry in entries] == [f"{1:024x}-1", f"{1:024x}-2"]


async def test_one_connection_answers_one_request_after_the_other(control: Running) -> None:
    def command() -> list[list[bytes]]:
        with ControlClient(control.path) as client:
            return [list(client.ask_raw(Queue())), list(client.ask_raw(Queue()))]

    assert await asyncio.to_thread(command) == [[], []]


async def test_an_engine_that_takes_no_more_clients_says_so_to_a_command(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLIENTS", 0)

    def command() -> None:
        with ControlClient(control.path) as client:
            list(client.ask_raw(Status()))

    for _ in range(20):  # the engine hangs up before the request or after it
        with pytest.raises(ControlError, match="connected to the engine already"):
            await asyncio.to_thread(command)
