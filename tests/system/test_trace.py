"""``mcmt trace`` of a real engine: both processes' connections, live, and no secret in it."""

from __future__ import annotations

import base64
import json
import signal
import smtplib
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcmt.control.client import ControlClient
from mcmt.control.protocol import Trace
from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates
from tests.system.commands import Command

DOMAIN = "apn.example.com"
PASSWORD = "correct-horse-battery"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
Gathered = Callable[..., Command]
UNREGISTERED = "dead41000" + "0" + "ab" * 27
"""The simulator answers 410 to it."""


@pytest.fixture
def gathered() -> Iterator[Gathered]:
    """Begins ``mcmt trace``; every one is ended with the test."""
    commands: list[Command] = []

    def begin(process: EngineProcess, *arguments: str) -> Command:
        commands.append(Command(process.folder, "trace", DOMAIN, *arguments, "--config", str(process.config)))
        return commands[-1]

    yield begin
    for command in commands:
        command.kill()


def objects(command: Command) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command.lines]


def wait(condition: Callable[[], bool], command: Command) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "\n".join([*command.lines[-40:], *command.errors])
        time.sleep(0.05)  # lines of another process have no event to wait for


def submit(process: EngineProcess, token: str) -> None:
    """With a login over TLS, in a session of its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        client.login("app", PASSWORD)
        client.mail("app@example.com")
        client.rcpt(f"user@{DOMAIN.upper()}")
        assert client.docmd("AUTH", f"PLAIN {base64.b64encode(f'{chr(0)}app{chr(0)}{PASSWORD}'.encode()).decode()}")[0]
        code, text = client.data(mcmt_message(PAYLOAD, token=token))
        assert code == 250, text


def push_by_http(process: EngineProcess, token: str) -> None:
    """As a client of propeller."""
    form = {"auth_token": PASSWORD, "topic": "com.example.app", "token": token, "title": "You have mail"}
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{process.doors['propeller']}/post", body, timeout=30) as answer:
        assert answer.status == 200


def begin(gathered: Gathered, process: EngineProcess, *arguments: str) -> Command:
    """A trace that is under way: it has shown that a mail was asked for in both processes."""
    command = gathered(process, "--json", *arguments)
    workers: set[str] = set()

    def both() -> bool:
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as client:
            client.ehlo()
            client.mail("app@example.com")
            client.rcpt(f"nobody@{DOMAIN}")
        workers.update(line["connection"].partition(".")[0] for line in objects(command))
        return workers >= {"0", "1"}

    wait(both, command)
    return command


def test_both_processes_are_shown_live_without_a_secret_and_nothing_is_left_of_it(
    tmp_path: Path, certificates: Certificates, gathered: Gathered
) -> None:
    users = tmp_path / "users"
    added = [sys.executable, "-m", "mcmt", "passwd", "--users-file", str(users), "--stdin", "app"]
    subprocess.run(added, input=PASSWORD, text=True, check=True, timeout=30)
    listen = {
        "mcmt_reception": "allow",
        "users_file": str(users),
        "tls_certificate": str(certificates.server),
        "tls_key": str(certificates.server_key),
    }
    with (
        simulator(tmp_path / "gateway") as gateway,
        engine(
            tmp_path / "engine",
            {DOMAIN: {**gateway.stanza, "max_outbound_connections": 2}, "other.example.com": gateway.stanza},
            workers=2,
            esmtp_listener={"listen": {"127.0.0.1:0": listen}},
            propeller={"listen": {"127.0.0.1:0": {"auth_token": PASSWORD, "topics": {"com.example.app": DOMAIN}}}},
        ) as process,
    ):
        command, open_ = begin(gathered, process), begin(gathered, process, "--bodies", "--tokens")
        good = [f"{number:064x}" for number in range(0xABCDEF0, 0xABCDEF0 + 8)]
        for token in (*good[1:], UNREGISTERED):
            submit(process, token)
        push_by_http(process, good[0])
        process.wait(lambda: len(process.logged("D")) + len(process.logged("P")) >= 9)

        def answered(lines: list[dict[str, Any]], status: str) -> int:
            return sum([":status", status] in line.get("fields", ()) for line in lines)

        wait(lambda: answered(objects(command), "200") == 8 and answered(objects(command), "410") == 1, command)
        wait(lambda: answered(objects(open_), "410") == 1, open_)
        lines = objects(command)
        text = "\n".join(command.lines)
        # Outbound: the connection, its frames, what is asked and answered.
        whats = {(line["way"], line["what"]) for line in lines if line.get("protocol") == "http2"}
        assert whats >= {("sent", "SETTINGS"), ("received", "SETTINGS"), ("sent", "HEADERS"), ("received", "DATA")}
        (connected, *_) = [line for line in lines if line["what"] == "connected"]
        assert "TLSv1.3" in connected["text"]
        requests = [dict(line["fields"]) for line in lines if line["way"] == "sent" and line["what"] == "HEADERS"]
        assert len(requests) == 9
        assert {request["apns-topic"] for request in requests} == {gateway.stanza["apn_topic"]}
        assert '{\\"reason\\":\\"Unregistered\\"' in text
        # Inbound: from the RCPT on.
        said = [line.get("text", "") for line in lines if line.get("protocol") == "smtp"]
        assert sum("logged in as app, MAIL FROM:<app@example.com>" in one for one in said) == 8
        assert sum(one == f"rcpt TO:<user@{DOMAIN.upper()}>" for one in said) == 8
        assert sum(one.startswith("250 2.0.0 ") and one.endswith(" queued") for one in said) == 8
        by_http = [(line["what"], line.get("text")) for line in lines if line.get("protocol") == "propeller"]
        assert by_http[:2] == [("request", "POST /post"), ("answer", "200 OK")]
        assert "AUTH PLAIN ..." in said
        assert {line["connection"].partition(".")[0] for line in lines} == {"0", "1"}

        # No secret in either; device tokens and payloads only where they were asked for.
        everything = text + "\n".join(open_.lines)
        provider_tokens = {push["headers"].get("authorization", "") for push in gateway.received}
        assert all("bearer ... (" in request["authorization"] for request in requests)
        for secret in (PASSWORD, *(token.removeprefix("bearer ")[:24] for token in provider_tokens if token)):
            assert secret not in everything
            assert base64.b64encode(secret.encode()).decode().rstrip("=")[4:-4] not in everything
        assert "eyJ" not in everything
        assert not any(token in text for token in (*good, UNREGISTERED))
        assert f"{UNREGISTERED[:4]}...{UNREGISTERED[-4:]}" in text
        assert "You have mail" not in text
        assert all(token in "\n".join(open_.lines) for token in good)
        assert "You have mail" in "\n".join(open_.lines)

        # Ctrl-C ends it, and the engine forgets it: a trace that begins now is told of what is open, anew.
        assert command.stop(signal.SIGINT) == 0
        assert open_.stop(signal.SIGINT) == 0
        assert command.errors == []
        plain = gathered(process, "--for", "3s")
        assert plain.wait() == 0
        assert any("-- open already" in line for line in plain.lines), plain.lines

        # The engine goes on when a worker and its part of the trace end; the trace goes on with the next worker.
        again = begin(gathered, process)
        pid = process.status()["workers"][0]
        subprocess.run(["kill", "-9", str(pid)], check=True)
        again.wait_for('"what":"away"')
        again.wait_for('"what":"back"')
        one = gathered(process, "--limit", "1")
        while one.process.poll() is None:
            submit(process, good[0])
        assert one.wait() == 0
        assert len([line for line in one.lines if not line.startswith(" ")]) == 1


def test_a_watcher_that_does_not_read_costs_lines_of_its_own_and_nothing_else(tmp_path: Path) -> None:
    count = 1500
    with (
        simulator(tmp_path / "gateway") as gateway,
        engine(tmp_path / "engine", {DOMAIN: gateway.stanza}) as process,
        ControlClient(process.folder / "spool" / "control.sock") as client,
    ):
        client.follow(Trace(DOMAIN))
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as sender:
            sender.ehlo()
            for number in range(count):
                sender.mail("app@example.com")
                sender.rcpt(f"user@{DOMAIN}")
                code, text = sender.data(mcmt_message(PAYLOAD, token=f"{number:064x}"))
                assert code == 250, text
        process.wait_for("D", count, within=60)
        left_out = seen = 0
        while (item := client.next_raw(1.0)) is not None:
            line = json.loads(item)
            left_out += line.get("left_out", 0)
            seen += 1
        # Of each: six lines of SMTP or more, two frames there and one back or more.
        assert seen + left_out >= count * 9
