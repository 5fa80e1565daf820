"""The doors for clients of pyapns and propeller-apns with the real process: what they acknowledge is delivered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import EngineProcess, engine
from tests.support.simulator_process import Simulator, simulator

LIBRARY = Path(__file__).parents[2] / ".peers" / "pyapns"
"""Where tests/peers.sh puts pyapns 0.4.1."""
DOMAIN = "apn.example.com"
APP = "myapp"
TOPIC = "com.example.app"
SECRET = "00000000-0000-0000-0000-000000000000"
FAILURES = {"return_path": "app@example.com"}
DOORS: dict[str, Any] = {
    "pyapns": {"listen": {"127.0.0.1:0": {"sandbox": {APP: DOMAIN}, **FAILURES}}},
    "propeller": {"listen": {"127.0.0.1:0": {"auth_token": SECRET, "topics": {TOPIC: DOMAIN}, **FAILURES}}},
}
HELLO = {"aps": {"alert": "hello"}}


def token(number: int) -> str:
    return f"{number:064x}"


@contextmanager
def pyapns(process: EngineProcess) -> Iterator[xmlrpc.client.ServerProxy]:
    """A client on a connection of its own."""
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{process.doors['pyapns']}/", allow_none=True) as proxy:
        yield proxy


def arrived(apple: Simulator) -> Counter[str]:
    return Counter(push["token"] for push in apple.received if push["status"] == 200)


def curl(process: EngineProcess, *fields: str) -> tuple[int, str]:
    """Status and body, as curl has them."""
    command = ["curl", "-s", "-w", "\n%{http_code}", f"http://127.0.0.1:{process.doors['propeller']}/post"]
    for field in fields:
        command += ["--data-urlencode", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_of_pyapns_move_in(tmp_path: Path, workers: int) -> None:
    dead = "dead410000" + "7" * 54
    with simulator(tmp_path / "apple") as apple:
        process = EngineProcess(
            tmp_path / "engine", {DOMAIN: apple.stanza}, generate_bounces=False, workers=workers, **DOORS
        )
        try:
            process.start()
            with pyapns(process) as client:
                assert client.provision(APP, "/etc/ssl/certs/app.pem", "sandbox", 15) is None
            # Each over a connection of its own: every worker knows the app at once.
            for number in range(20):
                with pyapns(process) as client:
                    assert client.notify(APP, token(number), HELLO) is None
            with pyapns(process) as client:
                assert client.notify(APP, [token(n) for n in range(20, 300)], [HELLO] * 280) is None
                assert client.notify(APP, dead, HELLO) is None
            process.wait(lambda: len(process.listing("tokens", "list", DOMAIN)) == 1)
            assert process.stop() == 0
            process.start()
            # Provisioned once, and for good.
            with pyapns(process) as client:
                assert client.notify(APP, token(300), HELLO) is None
                told: Any = client.feedback(APP)
                ((when, name),) = told
                assert name == dead
                assert abs(time.mktime(time.strptime(str(when), "%Y%m%dT%H:%M:%S")) - time.time()) < 600
                assert client.feedback(APP) == []
            process.wait(lambda: sum(arrived(apple).values()) >= 301)
            assert process.stop() == 0
            receptions = [line for line in process.mainlog if line[4] == "R"]
        finally:
            if process.process is not None:
                process.kill()
        assert arrived(apple) == Counter(token(number) for number in range(301))
    assert {line[10] for line in receptions} == {"pyapns"}


def python2() -> str:
    """A Python 2.7, and the client beside it; the test is left out where there is none."""
    found = [shutil.which("python2.7"), *map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python2.7"))]
    for python in filter(None, found):
        if not subprocess.run([python, "-c", "import xmlrpclib"], capture_output=True, check=False).returncode:
            assert (LIBRARY / "pyapns").exists(), "run tests/peers.sh"
            return python
    pytest.skip("there is no Python 2.7, which the client of pyapns needs")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_client_of_pyapns_0_4_1_itself_is_served(tmp_path: Path, workers: int) -> None:
    python, dead = python2(), "dead410000" + "7" * 54
    with simulator(tmp_path / "apple") as apple:
        domains = {DOMAIN: apple.stanza}
        with engine(tmp_path / "engine", domains, generate_bounces=False, workers=workers, **DOORS) as process:
            environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
            values = [f"http://127.0.0.1:{process.doors['pyapns']}/", APP, token(1), token(2), dead]
            done = subprocess.run(
                [python, "-c", PYTHON_CLIENT, *values], capture_output=True, text=True, timeout=60, env=environment
            )
            assert done.returncode == 0, done.stderr
            process.wait(lambda: len(process.listing("tokens", "list", DOMAIN)) == 1)
            process.wait(lambda: sum(arrived(apple).values()) == 3)
        payloads = {push["payload"] for push in apple.received if push["token"] == token(1)}
        assert arrived(apple) == Counter([token(1), token(1), token(2)])
    assert payloads == {'{"aps":{"alert":"schön"}}', '{"aps":{"badge":1}}'}
    assert done.stdout.split() == ["None", "None", "[]", "401", "8002", "UnknownAppID"]


PYTHON_CLIENT = """# -*- coding: utf-8 -*-
import sys
from xmlrpclib import Fault
from pyapns import client

host, app, one, two, dead = sys.argv[1:]
client.configure({"HOST": host, "TIMEOUT": 20, "INITIAL": [(app, "/etc/cert.pem", "sandbox", 15)]})
print(client.notify(app, one, {"aps": {"alert": u"sch\\xf6n"}}))
print(client.notify(app, [one, two], [{"aps": {"badge": 1}}, {"aps": {"badge": 2}}]))
print(client.feedback(app))
for call in (lambda: client.provision(app, "x", "staging"), lambda: client.notify(app, "xyz", {"aps": {}})):
    try:
        call()
    except Fault as fault:
        print(fault.faultCode)
client.notify(app, dead, {"aps": {"alert": "x"}})
del client.OPTIONS["INITIAL"]  # or it would provision and try again, as deep as its stack is
try:
    client.notify("nobody", one, {"aps": {}})
except client.UnknownAppID as unknown:
    print(type(unknown).__name__)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_of_propeller_move_in_and_a_delay_outlives_a_kill(tmp_path: Path, workers: int) -> None:
    fields = [f"auth_token={SECRET}", "title=Hello", "body=It works", "badge=3", f"topic={TOPIC}"]
    with simulator(tmp_path / "apple") as apple:
        process = EngineProcess(
            tmp_path / "engine", {DOMAIN: apple.stanza}, generate_bounces=False, workers=workers, **DOORS
        )
        try:
            process.start()
            status, body = curl(process, *fields, f"token={token(1)}")
            assert (status, json.loads(body)["token"]) == (200, token(1))
            assert curl(process, *fields[1:], f"token={token(2)}") == (401, "Unauthorized")
            assert curl(process, *fields, f"token={token(3)}", "delay=soon")[0] == 400
            due = time.time() + 3
            assert curl(process, *fields, f"token={token(4)}", "delay=3")[0] == 200
            process.kill()
            process.start()
            process.wait(lambda: len(apple.received) == 2)
            assert time.time() >= due
            assert process.stop() == 0
            receptions = [line for line in process.mainlog if line[4] == "R"]
        finally:
            if process.process is not None:
                process.kill()
        first = next(push for push in apple.received if push["token"] == token(1))
        assert arrived(apple) == Counter([token(1), token(4)])
    expected = '{"aps":{"content-available":0,"alert":{"title":"Hello","body":"It works"},"badge":3}}'
    assert first["payload"] == expected
    assert {line[10] for line in receptions} == {"propeller"}


def test_the_door_that_anybody_may_use_is_warned_of_where_others_reach_it(tmp_path: Path) -> None:
    doors = {"pyapns": {"listen": {":0": {"sandbox": {APP: DOMAIN}}}}}
    with simulator(tmp_path / "apple") as apple:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: apple.stanza}, generate_bounces=False, **doors)
        done = subprocess.run(process.command("check"), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "clients of pyapns show no password" in done.stderr
    assert f"pyapns on *:0: to {DOMAIN}" in done.stdout
