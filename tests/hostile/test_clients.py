"""Clients that mean harm, against the real process: its memory stays within a bound, and others are served meanwhile.

Each test measures a well-behaved client before and during the attack (neighbour.py), and the resident memory of the
process before and at its worst.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.neighbour import Neighbour, many_files
from tests.support.engine_process import EngineProcess, apn_domain, engine
from tests.support.tls import Certificates

MB = 1024**2
SINK = {"sink.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]}}
ENVELOPE = b"EHLO x\r\nMAIL FROM:<app@example.com>\r\nRCPT TO:<t@sink.example.com>\r\nDATA\r\n"


@contextlib.contextmanager
def serving(
    folder: Path, domains: dict[str, Any] | None = None, *, listen: dict[str, Any] | None = None, **limits: Any
) -> Iterator[EngineProcess]:
    """An engine with these limits of ``esmtp_listener``, *listen* being those of its address."""
    addresses = {"127.0.0.1:0": {"mcmt_reception": "allow", **(listen or {})}}
    with engine(folder, {**SINK, **(domains or {})}, esmtp_listener={"listen": addresses, **limits}) as process:
        yield process


class Watch:
    """The most memory that the process had, over the block."""

    def __init__(self, process: EngineProcess) -> None:
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before = process.resident_bytes()
        self.most = self.before

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._process.resident_bytes())

    @property
    def grown(self) -> int:
        return max(self.most, self._process.resident_bytes()) - self.before


def dial(process: EngineProcess, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", process.smtp_port), timeout=20, source_address=(address, 0))


def greeted(client: socket.socket) -> str:
    return client.recv(1000).decode()


def test_five_thousand_idle_connections_cost_little_and_nobody_waits(tmp_path: Path) -> None:
    count = 5000
    with many_files(count + 500):
        limits: dict[str, Any] = {"max_connections": count + 100, "max_connections_per_address": count}
        with serving(tmp_path, **limits) as process, Watch(process) as memory, contextlib.ExitStack() as held:
            with Neighbour(process.smtp_port):
                clients = [held.enter_context(dial(process)) for _ in range(count)]
                assert all(greeted(client).startswith("220 ") for client in clients)
                assert process.status()["sessions"] >= count
            # README and config: an idle session has 8 KB; 20 are what nobody should have to think about.
            assert memory.grown < count * 20 * 1024, memory.grown / count
            assert greeted_one_more(process).startswith("421 4.7.0 ")


def greeted_one_more(process: EngineProcess) -> str:
    with dial(process) as client:
        return greeted(client)


def test_past_the_limits_connections_are_told_so_and_cost_nothing(tmp_path: Path) -> None:
    """The defaults: 500 in all, 250 from one address."""
    with many_files(3000), serving(tmp_path) as process, contextlib.ExitStack() as held:
        with Neighbour(process.smtp_port), Watch(process) as memory:
            told = [greeted(held.enter_context(dial(process))) for _ in range(250)]
            assert {each[:4] for each in told} == {"220 "}
            for _ in range(1000):
                with dial(process) as client:
                    assert greeted(client).startswith("421 4.7.0 250 connections are open from your address")
        assert memory.grown < 16 * MB, memory.grown


def test_a_thousand_at_once_are_all_served(tmp_path: Path) -> None:
    count = 1000
    with many_files(count + 500), serving(tmp_path, max_connections=1100, max_connections_per_address=1000) as process:
        with Neighbour(process.smtp_port), Watch(process) as memory, contextlib.ExitStack() as held:
            clients = [held.enter_context(dial(process)) for _ in range(count)]
            for client in clients:
                client.sendall(ENVELOPE + b"Subject: at once\r\n\r\nx\r\n.\r\nQUIT\r\n")
            said = [everything_said(client) for client in clients]
        assert sum(b" queued\r\n221 " in each for each in said) == count
        assert memory.grown < 48 * MB, memory.grown
        process.wait(lambda: sum(line[4] == "D" for line in process.mainlog) >= count)


def everything_said(client: socket.socket, within: float = 20.0) -> bytes:
    client.settimeout(within)
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            said += piece
    return said


def test_slow_clients_are_cut_off_and_cost_the_others_nothing(tmp_path: Path) -> None:
    """Slowloris: 400 connections, each with one octet now and then, in a command and in the content of a message."""
    with (
        many_files(2000),
        serving(tmp_path, listen={"idle_timeout": 2}, max_connections_per_address=400) as process,
        contextlib.ExitStack() as held,
    ):
        clients = [held.enter_context(dial(process)) for _ in range(400)]
        for number, client in enumerate(clients):
            client.sendall(ENVELOPE if number % 2 else b"EHLO x\r\nMAIL FROM:<")
            client.setblocking(False)
        said = dict.fromkeys(clients, b"")
        with Neighbour(process.smtp_port), Watch(process) as memory:
            began = time.monotonic()
            # The content earns time octet by octet only for DATA_GRACE; a command earns none.
            while len(cut := [client for client in clients[::2] if b"421 4.4.2 " in said[client]]) < 200:
                assert time.monotonic() - began < 15, len(cut)
                for client in clients:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        client.send(b"x")
                time.sleep(0.1)  # that is how slow they are
                for client in clients:
                    with contextlib.suppress(BlockingIOError, ConnectionError):
                        said[client] += client.recv(1000)
            assert time.monotonic() - began < 8
        assert memory.grown < 16 * MB, memory.grown


LINE = b"X-Header: " + b"y" * 900 + b"\r\n"
MCMT_HEAD = b'Content-Type: multipart/vnd.msys.mcmt; boundary="B"\r\n\r\n'
APN = b"--B\r\nContent-Type: message/vnd.msys.apn\r\n\r\n"
MESSAGES = {
    "endless header": (LINE * 12_000, "552 5.3.4 "),
    "endless header of short lines": (b"a:\r\n" * 26_000, "554 5.3.4 "),
    "a header field without an end": (b"X: " + b"y" * 60_000 + (b"\r\n " + b"z" * 60_000) * 100, "554 5.3.4 "),
    "a line without an end": (b"x" * 9 * MB, "554 5.6.0 "),
    "100,000 parts": (MCMT_HEAD + (APN + b"\r\n") * 100_000 + b"--B--\r\n", "554 5.6.0 "),
    "100,000 boundary lines": (MCMT_HEAD + b"--B\r\n" * 100_000 + b"--B--\r\n", "554 5.6.0 "),
    "a boundary of 60,000 octets": (
        MCMT_HEAD.replace(b'"B"', b'"' + b"B" * 60_000 + b'"') + b"--B\r\n\r\n--B--\r\n",
        "554 5.6.0 ",
    ),
    "multiparts nested 20,000 deep": (
        MCMT_HEAD
        + b"".join(
            b'--B\r\nContent-Type: multipart/mixed; boundary="B%d"\r\n\r\n--B%d\r\n' % (n, n) for n in range(20_000)
        )
        + b"--B--\r\n",
        "554 5.6.0 ",
    ),
    "JSON nested 100,000 deep": (MCMT_HEAD + APN + b"\r\n" + b'{"aps":' * 9000 + b"\r\n--B--\r\n", "5"),
    "NUL": (b"Subject: a\0b\r\n\r\n" + b"\0" * 60_000, "554 5.6.0 "),
    "bytes that are not UTF-8": (MCMT_HEAD + APN + b"X-Device-Token: \xff\xfe\xc0\x80\r\n\r\n{}\r\n--B--\r\n", "55"),
    "a million folds": (b"Subject: x\r\n" + b" y\r\n" * 1_000_000, "554 5.3.4 "),
    "base64 bomb": (
        MCMT_HEAD
        + b"--B\r\nContent-Type: message/vnd.msys.apn\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + (base64.b64encode(b"\0" * 48) + b"\r\n") * 100_000
        + b"--B--\r\n",
        "55",
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[EngineProcess]:
    """One engine for all messages: what one attack left is there for the next."""
    push = {"apn.example.com": apn_domain(1, certificates, suspend_delivery=True)}
    with serving(tmp_path_factory.mktemp("engine"), push, max_intake_bytes="64MB") as process:
        # The first large message has the thread and the imports that it needs.
        with dial(process) as client:
            attack(client, b"Subject: warm\r\n\r\n" + b"x\r\n" * 500_000)
        yield process


def attack(client: socket.socket, content: bytes) -> str:
    """Send one message and say how it was answered."""
    client.sendall(ENVELOPE.replace(b"sink", b"apn"))
    said = b""
    while b"354 " not in said:
        said += client.recv(4096)
    # The reply may come before all is sent.
    with contextlib.suppress(ConnectionError):
        client.sendall(content + b"\r\n.\r\nQUIT\r\n")
    return everything_said(client).decode()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_is_an_attack_is_refused_within_its_memory(shared: EngineProcess, name: str) -> None:
    content, reply = MESSAGES[name]

    def send() -> str:
        with dial(shared) as client:
            return attack(client, content)

    with Neighbour(shared.smtp_port), Watch(shared) as memory, ThreadPoolExecutor(4) as four:
        said = [future.result() for future in [four.submit(send) for _ in range(4)]]
    # Where all four do not fit into max_intake_bytes, some are told to come later.
    assert all(each.startswith((reply, "452 4.3.1 ")) for each in said), [each[:100] for each in said]
    assert any(each.startswith(reply) for each in said)
    assert memory.grown < 96 * MB, memory.grown
