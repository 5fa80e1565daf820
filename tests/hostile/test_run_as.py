"""``run_as``: root binds the port and is a user from then on, with all that he may read and write and nothing else.

Root runs this (CI does); anybody else cannot change users and is told so.
"""

from __future__ import annotations

import os
import pwd
import shutil
import site
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mcmt
from tests.support.engine_process import EngineProcess, apn_domain, mcmt_message
from tests.support.peers import nginx
from tests.support.tls import Certificates

USER = "nobody"
REACH = "import mcmt.app, apsw, uvloop, cryptography.x509"
PLACES = (str(Path(mcmt.__file__).parents[1]), *site.getsitepackages())
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PLACES)}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def switched(user: str) -> dict[str, Any]:
    """What has subprocess start a process as *user*."""
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": (), "cwd": "/"}


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that the user can run with all that this one has: a checkout or a Python below /root is root's alone."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    said: list[Exception] = []
    for candidate in (sys.executable, system):
        try:
            command = [candidate, "-c", REACH]
            subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, **switched(USER))
        except (OSError, subprocess.CalledProcessError) as error:
            said.append(error)
        else:
            return candidate
    pytest.skip(f"{USER} cannot run this Python, nor read this checkout: {said}")


def start(process: EngineProcess, python: str) -> None:
    process.python = python
    process.start(env=ENVIRONMENT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user owns; pytest's own is below one that is root's alone."""
    path = Path(tempfile.mkdtemp(prefix="mcmt-run-as-"))
    (path / "engine").mkdir()
    (path / "engine" / "logs").mkdir()
    for each in (path, path / "engine", path / "engine" / "logs"):
        shutil.chown(each, USER)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def low_port() -> int:
    """A port that only root can bind, and nobody has."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def identity(pid: int) -> dict[str, list[str]]:
    """proc(5): the ids, groups and capabilities of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def credentials(folder: Path, certificates: Certificates, mode: int, group: int) -> Certificates:
    """Copies that a group may read, as a service is given its keys."""
    copied = {}
    for name in ("client", "client_key", "ca"):
        source: Path = getattr(certificates, name)
        copied[name] = Path(shutil.copy(source, folder / f"{name}.pem"))
        copied[name].chmod(0o644 if name != "client_key" else mode)
        os.chown(copied[name], 0, group)
    return certificates._replace(**copied)


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_but_the_binding_is_done_as_the_user(
    folder: Path, certificates: Certificates, python: str, workers: int
) -> None:
    account = pwd.getpwnam(USER)
    port = low_port()
    options: dict[str, Any] = {
        "run_as": USER,
        "workers": workers,
        "esmtp_listener": {"listen": {f"127.0.0.1:{port}": {"mcmt_reception": "allow"}}},
    }
    with nginx(folder / "nginx", certificates) as peer:
        own = credentials(folder, certificates, 0o640, account.pw_gid)
        process = EngineProcess(folder / "engine", {"apn.example.com": apn_domain(peer.port, own)}, **options)
        start(process, python)
        try:
            assert process.smtp_port == port
            process.send(mcmt_message(b'{"aps":{"alert":"x"}}'), "u@apn.example.com")
            process.wait_for("D")
            status = process.status()
            assert process.process is not None
            for pid in {process.process.pid, *status["workers"]}:
                found = identity(pid)
                assert found["Uid"] == [str(account.pw_uid)] * 4
                assert found["Gid"] == [str(account.pw_gid)] * 4
                assert "0" not in found["Groups"]
                assert {found[name][0].strip("0") for name in ("CapPrm", "CapEff", "CapAmb")} == {""}
                assert found["NoNewPrivs"] == ["1"]
            spool = folder / "engine" / "spool"
            made = [spool, *spool.iterdir(), *(folder / "engine" / "logs").iterdir()]
            assert {path.name: path.stat().st_uid for path in made if path.stat().st_uid != account.pw_uid} == {}
            assert oct((spool / "control.sock").stat().st_mode)[-3:] == "600"
        finally:
            assert process.stop() == 0


def run(process: EngineProcess, python: str, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "mcmt", command, "--config", str(process.config)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_key_that_the_user_cannot_read_is_a_fault_with_its_place(
    folder: Path, certificates: Certificates, python: str, command: str
) -> None:
    """Root could read it, so the configuration is judged again as the user."""
    own = credentials(folder, certificates, 0o600, 0)
    process = EngineProcess(folder / "engine", {"apn.example.com": apn_domain(1, own)}, run_as=USER)
    done = run(process, python, command)
    assert done.returncode == 2, done
    assert "mcmt.yaml:" in done.stderr
    assert "client_key.pem" in done.stderr
    assert "Permission denied" in done.stderr


def test_a_spool_that_is_roots_is_refused_and_not_given_away(folder: Path, python: str) -> None:
    sink = {"sink.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]}}
    process = EngineProcess(folder / "engine", sink, run_as=USER)
    spool = folder / "engine" / "spool"
    spool.mkdir(0o700)
    done = run(process, python, "serve")
    assert done.returncode == 1
    assert "belongs to user id 0 and the engine runs as" in done.stderr
    assert spool.stat().st_uid == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [("root", "is root"), ("no-such-user", "no such user"), ("nobody:no-such-group", "no such user"), (5, "expected")],
)
def test_whom_nobody_can_become_is_a_fault(folder: Path, python: str, value: object, said: str) -> None:
    done = run(EngineProcess(folder / "engine", {}, run_as=value), python, "check")
    assert done.returncode == 2
    assert "run_as" in done.stderr
    assert said in done.stderr


def test_who_is_not_root_is_told_that_he_cannot(folder: Path, python: str) -> None:
    sink = {"sink.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]}}
    process = EngineProcess(folder / "engine", sink, run_as=USER)
    shutil.chown(process.config, "daemon")
    folder.chmod(0o755)
    done = run(process, python, "serve", **switched("daemon"))
    assert done.returncode == 1
    assert "run_as: only root can become nobody" in done.stderr
