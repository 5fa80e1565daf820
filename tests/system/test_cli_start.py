"""Commands that need no engine, and engines that cannot start."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.system.commands import minimal, run, staying


def test_a_configuration_with_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("hostname: a b\nworkers: many\nfrobnicate: yes\n")
    done = run(tmp_path, "serve", "--config", "bad.yaml")
    assert done.returncode == 2
    for fault in ("bad.yaml:1:11: hostname: ", "bad.yaml:2:10: workers: ", "bad.yaml:3:1: frobnicate: "):
        assert fault in done.stderr


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "mcmt.yaml").write_text(minimal(port))
        done = run(tmp_path, "serve", "--config", "mcmt.yaml")
    assert (done.returncode, f"127.0.0.1:{port}" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_engine_that_is_asked_to_stop_ends_well_and_silently(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "mcmt.yaml").write_text(minimal(0))
    with staying(tmp_path, "serve", "--config", "mcmt.yaml") as serving:
        serving.wait_for("mainlog.ec")
        assert serving.stop(number) == 0
        assert serving.errors == []


def test_check_names_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "mcmt.yaml").write_text(minimal(2525, "file/spool", "ec_logger: {main: {mainlog: nowhere/main.ec}}\n"))
    done = run(tmp_path, "check", "mcmt.yaml")
    assert done.returncode == 2
    assert f"spool {tmp_path}/file/spool: {tmp_path}/file is not a folder" in done.stderr
    assert f"log {tmp_path}/nowhere/main.ec: its folder {tmp_path}/nowhere does not exist; make it" in done.stderr


def test_check_shows_every_fault_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(minimal(2525, more="workers: 0\nhost_name: x\n"))
    done = run(tmp_path, "check", "bad.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2
    assert all(re.match(r"bad\.yaml:\d+:\d+: ", line) for line in done.stderr.splitlines())


def test_without_a_configuration_the_places_looked_at_are_named(tmp_path: Path) -> None:
    done = run(tmp_path, "status")
    assert (done.returncode, "--config FILE" in done.stderr) == (2, True)


@pytest.mark.parametrize("command", [("status",), ("queue", "list"), ("queue", "show", "1")])
def test_without_an_engine_a_command_says_so(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "mcmt.yaml").write_text(minimal(2525))
    done = run(tmp_path, *command, "--config", "mcmt.yaml")
    assert (done.returncode, f"{tmp_path}/spool/control.sock: no engine answers there" in done.stderr) == (1, True)
