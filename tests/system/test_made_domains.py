"""Domains made for apps of pyapns' clients, with the real process: the certificate that a client provisions is what its
pushes go with, over restarts and kills, in every worker."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import EngineProcess
from tests.support.simulator_process import Simulator, simulator
from tests.system.test_old_clients import LIBRARY, python2

HELLO = {"aps": {"alert": "hello"}}
APP = "sandbox:com.Example"
SUFFIX = "apps.example.com"


def token(number: int) -> str:
    return f"{number:064x}"


def arrived(apple: Simulator) -> set[str]:
    """Without how often: a kill may repeat one."""
    return {push["token"] for push in apple.received if push["status"] == 200}


@contextlib.contextmanager
def client(process: EngineProcess) -> Iterator[xmlrpc.client.ServerProxy]:
    """On a connection of its own."""
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{process.doors['pyapns']}/", allow_none=True) as proxy:
        yield proxy


def engine_for(folder: Path, apple: Simulator, certificates: Path | None = None, **options: Any) -> EngineProcess:
    routes = apple.stanza["routes"]
    making: dict[str, Any] = {"suffix": SUFFIX, "most": 200, "domain_group": "made", "sandbox": routes}
    if certificates is not None:
        making["certificate_folder"] = str(certificates)
    group = {"tls_ca": apple.stanza["tls_ca"], "retry_interval": "100ms", "generate_bounces": False}
    doors = {"pyapns": {"listen": {"127.0.0.1:0": {"make_domains": making}}}, "domain_group": {"made": group}}
    return EngineProcess(folder, {}, **doors, **options)


def _provision_until_killed(process: EngineProcess, pem: str, acknowledged: list[str]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException), client(process) as one:
        for number in range(100):
            one.provision(f"k{number}", pem, "sandbox", 15)
            acknowledged.append(f"k{number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_app_without_a_domain_gets_one_of_its_certificate(tmp_path: Path, workers: int) -> None:
    """Pushed at once over any worker, after a kill and after a restart; the half-edited configuration on disk is not
    what the engine goes on by."""
    with simulator(tmp_path / "apple") as apple:
        folder = tmp_path / "apple" / "credentials"
        pem = (folder / "client.pem").read_text() + (folder / "client.key").read_text()
        (both := folder / "both.pem").write_text(pem)
        process = engine_for(tmp_path / "engine", apple, folder, workers=workers)
        written = process.config.read_text()
        try:
            process.start()
            process.config.write_text("domain: {half an edit")
            answers: list[object] = []
            acknowledged: list[str] = []

            def provision() -> None:
                with client(process) as one:
                    answers.append(one.provision(APP, pem, "sandbox", 15))

            both_at_once = [threading.Thread(target=provision) for _ in range(2)]
            for thread in both_at_once:
                thread.start()
            for thread in both_at_once:
                thread.join(60)
            assert answers == [None, None]
            # Each over a connection of its own: every worker has it at once.
            for number in range(8):
                with client(process) as one:
                    assert one.notify(APP, token(number), HELLO) is None
            process.wait(lambda: len(arrived(apple)) == 8)
            # Killed while apps are provisioned: what was answered is there, whatever else is.
            provisioning = threading.Thread(target=_provision_until_killed, args=(process, pem, acknowledged))
            provisioning.start()
            process.wait(lambda: len(acknowledged) >= 3)
            process.kill()
            provisioning.join(30)
            process.config.write_text(written)
            process.start()
            with client(process) as one:
                assert one.notify(APP, token(8), HELLO) is None
                assert one.provision("by.path", str(both), "sandbox", 15) is None
                assert one.notify("by.path", token(9), HELLO) is None
                assert one.feedback("by.path") == []
                with pytest.raises(xmlrpc.client.Fault) as told:
                    one.provision("outside", str(process.config), "sandbox", 15)
                assert (told.value.faultCode, told.value.faultString) == (8002, "error")
            made = {one["app_id"]: one for one in process.listing("pyapns", "list")}
            assert {one["topic"] for one in made.values()} == {"com.example.app"}
            assert {APP, "by.path", *acknowledged} <= made.keys()
            assert len(made) <= 2 + len(acknowledged) + 1  # one was not answered
            assert made["by.path"]["domain"] == f"by.path.sandbox.{SUFFIX}"
            process.wait(lambda: len(arrived(apple)) == 10)
            process.operate("reload")
            with client(process) as one:
                assert one.notify(APP, token(10), HELLO) is None
            process.wait(lambda: len(arrived(apple)) == 11)
            process.operate("pyapns", "remove", made["by.path"]["domain"])
            with client(process) as one, pytest.raises(xmlrpc.client.Fault, match="8002"):
                one.notify("by.path", token(11), HELLO)
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
        assert arrived(apple) == {token(number) for number in range(11)}
        topics = {push["topic"] for push in apple.received if "topic" in push}
        assert topics <= {"com.example.app"}
    files = sorted((tmp_path / "engine" / "spool" / "pyapns").iterdir())
    assert len(files) == 2 * (len(made) - 1)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    key = pem.split("PRIVATE KEY-----\n")[1][:40]
    for file in (process.diagnostics, *(tmp_path / "engine" / "logs").iterdir()):
        assert key not in file.read_text()


PYTHON_CLIENT = """
import sys
from xmlrpclib import Fault
from pyapns import client

host, app, certificate, token = sys.argv[1:]
initial = [(app, certificate, "sandbox", 15), ("other", certificate, "sandbox", 15)]
client.configure({"HOST": host, "TIMEOUT": 20, "INITIAL": initial})
print(client.notify(app, token, {"aps": {"alert": "x"}}))
print(client.feedback("other"))
try:
    client.provision("third", "/etc/hostname", "sandbox")
except Fault as fault:
    print(fault.faultCode)
"""


def test_the_client_of_pyapns_0_4_1_itself_needs_nothing_but_the_address(tmp_path: Path) -> None:
    python = python2()
    with simulator(tmp_path / "apple") as apple:
        folder = tmp_path / "apple" / "credentials"
        (both := folder / "both.pem").write_bytes(
            (folder / "client.pem").read_bytes() + (folder / "client.key").read_bytes()
        )
        process = engine_for(tmp_path / "engine", apple, folder)
        try:
            process.start()
            values = [f"http://127.0.0.1:{process.doors['pyapns']}/", APP, str(both), token(1)]
            environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
            done = subprocess.run(
                [python, "-c", PYTHON_CLIENT, *values], capture_output=True, text=True, timeout=60, env=environment
            )
            assert done.returncode == 0, done.stderr
            process.wait(lambda: arrived(apple) == {token(1)})
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
    assert done.stdout.split() == ["None", "[]", "8002"]
