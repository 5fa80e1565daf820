"""Every door at once with the real process: what any of them acknowledged is delivered, whoever is killed."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.doors import APP, KEY, SECRET, TOPIC, every_door
from tests.support.engine_process import EngineProcess
from tests.support.old_sender import Answer, OldSender, enhanced, token
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates

DOMAIN = "apn.example.com"
HELLO: dict[str, Any] = {"aps": {"alert": "hello"}}
KILLS = 50 if os.environ.get("MCMT_LONG_KILLS") else 2
LINES = 20
"""Of one bulk request, and frames of one connection."""
Numbers = Iterator[int]


def _connection(port: int) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20))


def _line(name: str) -> bytes:
    part = {"media_type": "message/vnd.msys.apn", "tokens": [name], "json": HELLO}
    return json.dumps({"to": [f"push@{DOMAIN}"], "parts": [part]}).encode() + b"\n"


def _api(process: EngineProcess, _: Certificates, numbers: Numbers) -> Iterator[str]:
    with _connection(process.doors["http_listener"]) as connection:
        for name in map(token, numbers):
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Idempotency-Key": name}
            connection.request("POST", "/v1/messages", _line(name), headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 202:
                yield name


def _bulk(process: EngineProcess, _: Certificates, numbers: Numbers) -> Iterator[str]:
    with _connection(process.doors["http_listener"]) as connection:
        while True:
            names = [token(number) for number in itertools.islice(numbers, LINES)]
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-ndjson"}
            headers["Idempotency-Key"] = names[0]
            connection.request("POST", "/v1/messages", b"".join(map(_line, names)), headers)
            answer = connection.getresponse()
            for name, line in zip(names, answer, strict=True):  # as they come: each is an acknowledgement
                if json.loads(line)["status"] == 202:
                    yield name


def _pyapns(process: EngineProcess, _: Certificates, numbers: Numbers) -> Iterator[str]:
    address = f"http://127.0.0.1:{process.doors['pyapns']}/"
    with xmlrpc.client.ServerProxy(address, allow_none=True) as client:
        while True:
            names = [token(number) for number in itertools.islice(numbers, 2)]
            client.notify(APP, names, [HELLO, HELLO])
            yield from names


def _propeller(process: EngineProcess, _: Certificates, numbers: Numbers) -> Iterator[str]:
    with _connection(process.doors["propeller"]) as connection:
        for name in map(token, numbers):
            form = urlencode({"auth_token": SECRET, "title": "x", "topic": TOPIC, "token": name})
            connection.request("POST", "/post", form, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                yield name


def _frames(process: EngineProcess, certificates: Certificates, numbers: Numbers) -> Iterator[str]:
    """A bad notification at the end confirms what stands before it."""
    while True:
        names = [token(number) for number in itertools.islice(numbers, LINES)]
        address = ("127.0.0.1", process.gateway_port)
        sender = OldSender(address, certificates.ca, certificates.client, certificates.client_key)
        told = sender.push([enhanced(each, number) for number, each in enumerate([*names, "ab"])])
        if told == Answer(8, 5, LINES):
            yield from names


Send = Callable[[EngineProcess, Certificates, Numbers], Iterator[str]]
DOORS: Mapping[str, Send] = MappingProxyType(
    {"HTTP": _api, "HTTP in bulk": _bulk, "pyapns": _pyapns, "propeller": _propeller, "frames": _frames}
)


class Sender(threading.Thread):
    """Sends through one door until it is told to stop; begins anew, with other tokens, when its connection is lost."""

    def __init__(self, send: Callable[[], Iterator[str]], acknowledged: list[str]) -> None:
        super().__init__(daemon=True)
        self._send = send
        self._acknowledged = acknowledged
        self._stop_asked = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            # Closed and turned away: that is what it is like when someone is killed.
            with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Fault, ValueError):
                for name in self._send():
                    self._acknowledged.append(name)
                    if self._stop_asked.is_set():
                        return
            self._stop_asked.wait(0.02)

    def end(self) -> None:
        self._stop_asked.set()
        self.join(60)
        assert not self.is_alive()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_nothing_that_any_door_has_acknowledged(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    """Killed at any moment while clients of all doors send, KILLS times: the engine, or in turn a worker and all."""
    chance = random.Random(workers)
    acknowledged: dict[str, list[str]] = {door: [] for door in DOORS}
    numbers = {door: itertools.count(place * 10**9) for place, door in enumerate(DOORS)}
    senders: list[Sender] = []

    def begin(process: EngineProcess) -> None:
        for door, send in DOORS.items():
            given = (process, certificates, numbers[door])
            senders.append(Sender(lambda send=send, given=given: send(*given), acknowledged[door]))  # type: ignore[misc]

    def end() -> None:
        while senders:
            senders.pop().end()

    def go_on(more: int) -> None:
        """Return when each door has acknowledged so many more."""
        goals = {door: len(names) + more for door, names in acknowledged.items()}

        def reached() -> bool:
            assert all(sender.is_alive() for sender in senders)
            return all(len(acknowledged[door]) >= goal for door, goal in goals.items())

        process.wait(reached, within=60)

    with simulator(tmp_path / "apple") as apple:
        domain = {**apple.stanza, "retry_interval": "100ms"}
        doors = every_door(DOMAIN, certificates)
        process = EngineProcess(tmp_path / "engine", {DOMAIN: domain}, generate_bounces=False, workers=workers, **doors)
        try:
            process.start()
            with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{process.doors['pyapns']}/", allow_none=True) as client:
                client.provision(APP, "/etc/ssl/certs/app.pem", "sandbox", 15)
            begin(process)
            for kill in range(KILLS):
                go_on(chance.randrange(1, 40))
                if workers > 1 and kill % 2 == 0:
                    os.kill(chance.choice(process.status()["workers"]), signal.SIGKILL)
                else:
                    process.kill()
                    end()
                    process.start()
                    begin(process)
            go_on(1)
            end()
            wanted = {name for names in acknowledged.values() for name in names}
            arrived: set[str] = set()

            def delivered() -> bool:
                arrived.update(push["token"] for push in apple.received if push["status"] == 200)
                return wanted <= arrived

            process.wait(delivered, within=60)
            assert process.stop() == 0
        finally:
            end()
            if process.process is not None:
                process.kill()
