"""``mcmt demo``: what a newcomer sees first."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

from mcmt.cli import sample
from tests.system.commands import MCMT, environment, run, staying

ANY_PORT = ("--smtp-port", "0")


def section(output: str, title: str) -> str:
    """What stands under a title."""
    found = re.search(rf"^--- {re.escape(title)}[^\n]*\n(.*?)(?=\n\n--- |\Z)", output, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r} in:\n{output}"
    return found[1]


def test_the_round_trip_is_shown_and_ends_with_success(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--once", *ANY_PORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert section(done.stdout, "the message, handed in over SMTP").strip() == sample.MESSAGE.strip()
    reply = section(done.stdout, "the reply")
    batch_id = re.fullmatch(r"250 2\.0\.0 ([0-9a-f]{24}) queued", reply.strip())
    assert batch_id
    head, _, payload = section(done.stdout, "the push, as the simulator received it").partition("\n\n")
    assert f":path: /3/device/{sample.TOKEN}" in head
    assert f"apns-topic: {sample.TOPIC}" in head
    assert json.loads(payload)["aps"]["alert"] == "You have mail"
    line = section(done.stdout, "the line in logs/apnlog.ec").strip()
    assert f"@D@{batch_id[1]}-1@" in line
    assert line in (tmp_path / "logs" / "apnlog.ec").read_text().splitlines()


def test_no_secret_is_shown(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--once", *ANY_PORT)
    assert "authorization: bearer ...\n" in done.stdout
    assert "eyJ" not in done.stdout


def test_a_second_run_in_the_same_folder_works_as_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(tmp_path, "demo", "--once", *ANY_PORT).returncode == 0
    assert len([line for line in (tmp_path / "logs" / "apnlog.ec").read_text().splitlines() if "@D@" in line]) == 2


def test_the_configuration_that_it_writes_passes_the_check(tmp_path: Path) -> None:
    run(tmp_path, "demo", "--once", *ANY_PORT)
    done = run(tmp_path, "check", ".demo/mcmt.yaml")
    assert (done.returncode, "warning" in done.stderr) == (0, False), done.stderr


def test_without_a_folder_for_logs_they_are_in_the_demos_own(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    done = run(tmp_path, "demo", "--once", *ANY_PORT)
    assert done.returncode == 0, done.stderr
    assert "--- the line in .demo/logs/apnlog.ec" in done.stdout


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "demo", "--once", "--smtp-port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "mcmt demo --smtp-port 0" in done.stderr


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "demo", "--once", *ANY_PORT, "--dir", "file/demo")
    assert (done.returncode, "file/demo: Not a directory" in done.stderr) == (1, True), done.stderr


def test_it_serves_until_ctrl_c_and_what_it_says_to_do_next_works(tmp_path: Path) -> None:
    with staying(tmp_path, "demo", *ANY_PORT) as demo:
        demo.wait_for("serving until Ctrl-C")
        again, gone = (line.split(" --", 1)[1] for line in demo.lines if " send --config" in line)
        done = run(tmp_path, "send", *arguments(again))
        assert (done.returncode, "@D@" in done.stdout) == (0, True), done.stdout + done.stderr
        demo.wait_for('push  200 OK  {"aps":{"alert":"Hello"}}')
        done = run(tmp_path, "send", *arguments(gone))
        assert (done.returncode, "@410@Unregistered" in done.stdout) == (1, True), done.stdout + done.stderr
        demo.wait_for("push  410 Unregistered")
        assert demo.stop(signal.SIGINT) == 0
        assert demo.errors == []


def arguments(shown: str) -> list[str]:
    """The options of a command line that was shown, behind its first ``--``."""
    return [word.strip('"') for word in f"--{shown}".split()]


def test_a_second_demo_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with staying(tmp_path, "demo", *ANY_PORT) as demo:
        demo.wait_for("serving until Ctrl-C")
        done = run(tmp_path, "demo", "--once", *ANY_PORT)
        assert (done.returncode, f"pid {demo.process.pid}" in done.stderr) == (1, True), done.stderr
        assert run(tmp_path, "status", "--config", ".demo/mcmt.yaml").returncode == 0


def test_a_terminal_that_is_closed_ends_it_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [MCMT, "demo", *ANY_PORT],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("serving until Ctrl-C" in line for line in process.stdout)
        process.stdout.close()
        send = ("send", "--config", ".demo/mcmt.yaml", "--token", sample.TOKEN, "--alert", "Hello")
        assert run(tmp_path, *send).returncode == 0
        assert process.wait(20) in (0, 1)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
