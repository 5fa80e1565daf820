"""Control characters and line ends in every field that a client or a gateway fills: no log, reply or report has them.

The real process, the simulator in Apple's place, Postfix's sink for the report; what each field was given is looked for
in everything that comes out.
"""

from __future__ import annotations

import base64
import email
import email.policy
import json
import re
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.fuzz.targets.escaping import COLUMNS
from tests.support.engine_process import EngineProcess, engine
from tests.support.mail_peers import smtp_sink
from tests.support.simulator_process import simulator

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""What no line of any output may have; between lines there is LF."""
NASTY = 'a\tb\x01c\x0bd\x1b[31me\x7ff\u0085g\u2028h\u2029i"j\\k%t@l{0}m\r\n250 2.0.0 forged\r\nn'
"""For fields that come encoded, so that even line ends get in."""
ON_A_LINE = NASTY.replace("\r\n", " ")
"""For fields that come as they are."""
TOKEN = "bad5".ljust(64, "0")
LATER = "1a7e".ljust(64, "0")
"""Refused for now, so that it stays in the queue with what the gateway said."""


def part(headers: str, payload: bytes = b'{"aps":{"alert":"x"}}') -> bytes:
    """An apn part whose inner header block is in base64: a bare CR in it passes every reader of lines."""
    inner = headers.encode("utf-8", "surrogateescape") + b"\r\n" + payload
    return (
        b"--B\r\nContent-Type: message/vnd.msys.apn\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(inner).replace(b"\n", b"\r\n")
    )


def message(headers: str, inner: str) -> bytes:
    head = f'{headers}Content-Type: multipart/vnd.msys.mcmt; boundary="B"\r\n\r\n'
    return head.encode("utf-8", "surrogateescape") + part(inner) + b"--B--\r\n"


def talk(port: int, *said: bytes) -> list[bytes]:
    """One session: each is sent when the one before was answered; the replies, which are lines of plain text."""
    replies = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw, raw.makefile("rb") as file:
        replies.append(file.readline())
        for piece in said:
            raw.sendall(piece)
            while True:
                replies.append(file.readline())
                if replies[-1][3:4] != b"-":
                    break
    assert all(re.fullmatch(rb"[2-5]\d\d[ -][\x20-\x7e]*\r\n", reply) for reply in replies), replies
    return replies


def envelope(sender: str = "<app@example.com>") -> bytes:
    return f"MAIL FROM:{sender} SMTPUTF8\r\n".encode()


RECIPIENT = b"RCPT TO:<user@apn.example.com>\r\n"


def attack(port: int) -> None:
    """Every field of a session and of a message."""
    nasty = ON_A_LINE.encode()
    talk(port, b"EHLO " + nasty + b"\r\n", nasty + b"\r\n", b"VRFY " + nasty + b"\r\n", b"HELP " + nasty + b"\r\n")
    talk(port, b"EHLO x\r\n", b"MAIL FROM:<" + nasty + b"@b.c>\r\n", b"MAIL FROM:<a@b.c> " + nasty + b"\r\n")
    talk(port, b"EHLO x\r\n", b"MAIL FROM:<a@b.c> X\xc2\x85Y=\xe2\x80\xa8\r\n", b"NOOP \xff\xfe\r\n", b"a\rb\x00c\n")
    talk(port, b"EHLO x\r\n", envelope(), b"RCPT TO:<" + nasty + b"@apn.example.com>\r\n", RECIPIENT + b"")
    talk(port, b"EHLO x\r\n", envelope(), b"RCPT TO:<u@\xc2\x85nowhere.example>\r\n", b"RCPT TO:<u@no.where>\r\n")
    quoted = envelope('<"a@b\\"c\\\\d%t{0} =0D=0A =?utf-8?q?e=0D=0Af?="@example.com>')
    whole = (b"EHLO x\r\n", quoted, RECIPIENT, b"DATA\r\n")
    headers = f"Subject: {ON_A_LINE}\r\nX-MCMT-Context: key={ON_A_LINE}\r\n\x1b[31mX: y\r\nX\x01: z\r\n"
    assert talk(port, *whole, message(headers, f"X-Device-Token: {TOKEN}\r\n") + b".\r\n")[-1].startswith(b"250 ")
    assert talk(port, *whole, message("", f"X-Device-Token: {LATER}\r\n") + b".\r\n")[-1].startswith(b"250 ")
    returned = "Return-Path: <r@example.com>\rRCPT TO:<evil@example.com>\x0b\r\n"
    assert talk(port, *whole, message("", f"X-Device-Token: {TOKEN}\r\n{returned}") + b".\r\n")[-1][:3] in (
        b"250",
        b"554",
    )
    for inner in (
        f"X-Device-Token: {ON_A_LINE}\r\n",
        f"X-Device-Token: {TOKEN}\r\napns-topic: {ON_A_LINE}\r\n",
        f"X-Device-Token: {TOKEN}\r\napns-collapse-id: {ON_A_LINE}\r\n",
        f"X-Device-Token: {TOKEN}\r\napns-push-type: {ON_A_LINE}\r\n",
        f"{ON_A_LINE}\r\n",
        "X-Device-Token: \udcff\udcfe\r\n",
    ):
        assert talk(port, *whole, message("", inner) + b".\r\n")[-1].startswith((b"554 ", b"250 ")), inner


def commands(process: EngineProcess) -> str:
    """What the commands say of it."""
    said = ""
    (waiting,) = process.listing("queue", "list")
    assert "available" in waiting["last"]
    shown = (["queue", "list"], ["queue", "list", "--json"], ["queue", "show", waiting["id"]], ["audit", "--all"])
    for command in (["status"], ["status", "--json"], *shown):
        done = subprocess.run(
            [sys.executable, "-m", "mcmt", *command, "--config", str(process.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    return said


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that an engine wrote while it was told all of that, by what it is."""
    folder = tmp_path_factory.mktemp("fields")
    rules = folder / "rules.yaml"
    reason = "".join(f"\\x{ord(each):02x}" for each in '\x1b[31m\x00"a@b\\x0A\x7f')
    rules.write_text(
        f'rules: [{{token: "bad5*", answer: "410 Un{reason}registered"}}, '
        f'{{token: "1a7e*", answer: "503 Un{reason}available"}}]\n'
    )
    loggers: dict[str, Any] = {
        "ec_logger": {
            "text": {"mainlog": "logs/mainlog.ec", "rejectlog": "logs/rejectlog.ec"},
            "json": {"mainlog": "logs/mainlog.json", "format": "json"},
        },
        "apn_logger": {
            "text": {"logfile": "logs/apnlog.ec"},
            "json": {"logfile": "logs/apnlog.json", "format": "json"},
        },
    }
    with simulator(folder / "gateway", "--rules", str(rules)) as gateway, smtp_sink() as sink:
        domains = {
            "apn.example.com": gateway.stanza,
            "example.com": {"delivery_method": "smtp", "routes": [sink.route], "retry_interval": "100ms"},
        }
        with engine(folder / "engine", domains, **loggers) as process:
            attack(process.smtp_port)
            process.wait_for("P")
            process.wait_for("T")
            said = commands(process)
            mails = sink.messages_now
            process.wait(lambda: bool(mails()) and mails()[0].read_bytes().rstrip().endswith(b"--"))
            report = mails()[0].read_text("utf-8", "surrogateescape")
    logs = {path.name: path.read_bytes().decode() for path in (folder / "engine" / "logs").iterdir()}
    return {**logs, "commands": said, "report": report, "diagnostics": process.diagnostics.read_text()}


def test_no_output_has_a_control_character_but_its_line_ends(outputs: dict[str, str]) -> None:
    # In mail a tab is white space as any other; header fields are folded with it. Into a pipe it parts columns.
    texts = {**outputs, **{name: outputs[name].replace("\t", " ") for name in ("report", "commands")}}
    found = {name: match for name, text in texts.items() if (match := CONTROL.search(text))}
    assert found == {}
    assert all(outputs[name] for name in ("mainlog.ec", "mainlog.json", "rejectlog.ec", "apnlog.ec", "apnlog.json"))


def test_every_line_of_every_log_is_one_that_was_meant(outputs: dict[str, str]) -> None:
    lines = [line.split("@") for line in outputs["mainlog.ec"].splitlines()]
    assert {(line[4], len(line)) for line in lines} <= {*COLUMNS.items()}
    types = [line[4] for line in lines if line[4] != "M"]
    assert {"R", "P", "J"} <= {*types}
    assert [json.loads(line)["type"] for line in outputs["mainlog.json"].splitlines() if '"M"' not in line] == types
    assert {json.loads(line)["type"] for line in outputs["apnlog.json"].splitlines()} <= {"P", "D", "T", "M"}
    assert all(re.match(r'\d+: (R="|Marker 1$)', line) for line in outputs["rejectlog.ec"].splitlines())
    assert "forged" not in re.findall(r"^.*$", outputs["mainlog.ec"], re.MULTILINE)


def test_the_report_has_the_fields_and_parts_of_a_report_and_no_others(outputs: dict[str, str]) -> None:
    notes, _, content = outputs["report"].partition("\nFrom: Mail Delivery System ")
    bounce = email.message_from_string(f"From: Mail Delivery System {content}", policy=email.policy.default)
    names = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
    assert [name for name in bounce.keys() if name != "Received"] == names  # noqa: SIM118 - repeated ones count
    assert [each.get_content_type() for each in bounce.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert notes.count("X-Rcpt-Args:") == 1
    assert "evil@example.com" not in notes


def test_what_the_diagnostics_say_is_no_fault_of_ours(outputs: dict[str, str]) -> None:
    assert "Traceback" not in outputs["diagnostics"]
    assert "fault" not in outputs["diagnostics"]
