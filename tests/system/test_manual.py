"""What the manual shows of the doors is run as it stands there, and prints what is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcmt.intake.http.tokens import hash_of
from tests.support.engine_process import EngineProcess
from tests.support.simulator_process import Simulator, simulator

DOCS = Path(__file__).parents[2] / "docs"
HTTP, MIGRATE = (DOCS / "http.md").read_text(), (DOCS / "migrate.md").read_text()
DOMAINS = ("apn.example.com", "apn-sandbox.example.com")
TOKEN = "0123456789abcdef" * 4
_changing = (
    (re.compile(r"\b[0-9a-f]{24}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"^Date: .*$", re.MULTILINE), "Date"),
    (re.compile(r"mcmt_[\w-]{43}"), "TOKEN"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "HASH"),
)


def blocks(text: str, kind: str = "") -> list[str]:
    """What stands between fences of that kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for kind_, content in found if kind_ == kind]


def stanza(text: str, name: str) -> Any:
    """The last one of that name that is shown, on a port that the system chooses."""
    (*_, shown) = [found[name] for found in map(yaml.safe_load, blocks(text, "yaml")) if name in found]
    (options,) = shown["listen"].values()
    return {**shown, "listen": {"127.0.0.1:0": options}}


def steps(text: str) -> list[tuple[str, str]]:
    """Commands, and what each prints."""
    found = []
    for block in blocks(text):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", step)
            assert command
            found.append((command[0], step[command.end() :]))
    return found


def masked(text: str) -> str:
    for pattern, word in _changing:
        text = pattern.sub(word, text)
    return text.strip()


@pytest.fixture(scope="module")
def apple(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("apple")) as running:
        yield running


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, apple: Simulator) -> Iterator[EngineProcess]:
    """An engine with the doors as they are configured in the manual."""
    doors = {"pyapns": stanza(MIGRATE, "pyapns"), "propeller": stanza(MIGRATE, "propeller")}
    doors["http_listener"] = stanza(HTTP, "http_listener")
    domains = dict.fromkeys(DOMAINS, apple.stanza)
    engine = EngineProcess(tmp_path_factory.mktemp("engine"), domains, generate_bounces=False, **doors)
    engine.start()
    try:
        yield engine
    finally:
        if engine.process is not None:
            engine.stop()


def shell(command: str, process: EngineProcess, folder: Path, **environment: str) -> str:
    """What it prints, in a folder with the files that are shown; addresses are those of the engine."""
    for shown, port in (("8025", process.doors["http_listener"]), ("8080", process.doors["propeller"])):
        command = command.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
    )
    return done.stdout


def test_the_http_apis_commands_print_what_is_shown(tmp_path: Path, process: EngineProcess) -> None:
    (token,) = re.findall(r"^  (mcmt_\w+)$", HTTP, re.MULTILINE)
    assert stanza(HTTP, "http_listener")["tokens"]["shop"]["hash"] == hash_of(token)
    (message,), (lines,) = blocks(HTTP, "json"), blocks(HTTP, "ndjson")
    (tmp_path / "message.json").write_text(message)
    (tmp_path / "messages.ndjson").write_text(lines)
    batch_id = ""
    commands = steps(HTTP)
    assert len(commands) == 4
    for command, shown in commands:
        if batch_id:
            command = re.sub(r"/v1/messages/[0-9a-f]{24}", f"/v1/messages/{batch_id}", command)
        deadline = time.monotonic() + 20
        while masked(said := shell(command, process, tmp_path, MCMT_API_KEY=token)) != masked(shown):
            # What is asked of the status changes by itself; everything else is as it is.
            assert "json.tool" in command, said
            assert time.monotonic() < deadline, said
        if found := re.search(r"^Location: /v1/messages/(\w+)", said, re.MULTILINE):
            batch_id = found[1]


def test_the_http_apis_python_is_run(process: EngineProcess, capsys: pytest.CaptureFixture[str]) -> None:
    (token,) = re.findall(r"^  (mcmt_\w+)$", HTTP, re.MULTILINE)
    (program,) = blocks(HTTP, "python")
    program = program.replace("127.0.0.1:8025", f"127.0.0.1:{process.doors['http_listener']}")
    exec(program, {"token": token, "device": TOKEN})
    assert re.match(r"[0-9a-f]{24} \(Delivery\(id=", capsys.readouterr().out)


def test_propellers_curl_prints_what_is_shown(tmp_path: Path, process: EngineProcess, apple: Simulator) -> None:
    section = MIGRATE.partition("## propeller-apns")[2]
    command, shown = blocks(section, "sh")[0], blocks(section)[0]
    assert json.loads(shell(command, process, tmp_path)) == json.loads(shown)
    process.wait(lambda: any('"badge":3' in push["payload"] for push in apple.received))


def test_pyapns_python_is_run(process: EngineProcess, apple: Simulator) -> None:
    program = blocks(MIGRATE.partition("## pyapns")[2], "python")[0]
    subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:7077", f"127.0.0.1:{process.doors['pyapns']}")],
        check=True,
        timeout=60,
    )
    process.wait(lambda: any(push["payload"] == '{"aps":{"alert":"Hello"}}' for push in apple.received))
