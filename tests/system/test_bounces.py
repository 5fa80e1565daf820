"""A dead token comes back to its sender as a mail: the real process, the simulator in Apple's place, Postfix's sink."""

from __future__ import annotations

import email
import email.policy
import random
import re
import smtplib
import threading
import time
from collections import Counter
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from flufl.bounce import all_failures

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.mail_peers import Server, smtp_sink
from tests.support.simulator_process import simulator

DOMAIN = "apn.example.com"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
DEAD = "dead410000".ljust(64, "0")
GOOD = "ab" * 32
SILENT_ONCE = "fa11001".ljust(64, "0")
"""The simulator does not answer it, once; then 200."""
WHOLE = re.compile(rb"\n--[0-9a-f]{24}--\n")
"""The end of a report is there."""


def to_mail(sink: Server) -> dict[str, Any]:
    return {"delivery_method": "smtp", "routes": [sink.route], "retry_interval": "100ms"}


def read(mail: bytes) -> tuple[str, EmailMessage]:
    """The envelope's sender as the sink notes it, and the message behind its notes."""
    notes, _, content = mail.partition(b"\nFrom: Mail Delivery System ")
    (sender,) = [line for line in notes.decode().splitlines() if line.startswith("X-Mail-Args:")]
    message = email.message_from_bytes(b"From: Mail Delivery System " + content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return sender.partition(": ")[2], message


def blocks(bounce: EmailMessage) -> list[Any]:
    """The fields of each recipient."""
    assert [part.get_content_type() for part in bounce.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert [part.defects for part in bounce.walk() if part.defects] == []
    return list(list(bounce.iter_parts())[1].iter_parts())[1:]


def ledger(process: EngineProcess) -> list[list[str]]:
    """The main log's lines, as columns."""
    lines = (process.folder / "logs" / "mainlog.ec").read_text().splitlines()
    return [line.split("@") for line in lines if "@@@@M" not in line]


def test_a_dead_token_comes_back_to_the_sender_as_a_mail(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway, smtp_sink() as sink:
        domains = {DOMAIN: gateway.stanza, "*": to_mail(sink)}
        with engine(tmp_path / "engine", domains) as process:
            batch = process.send(mcmt_message(PAYLOAD, token=f"{DEAD}, {GOOD}"), f"user@{DOMAIN}")
            sender, bounce = read(sink.messages(1)[0])
            assert sender == "<>"
            assert bounce["to"] == "app@example.com"
            assert bounce["auto-submitted"] == "auto-replied"
            (block,) = blocks(bounce)
            assert block["final-recipient"] == f"rfc822; user@{DOMAIN}"
            assert (block["action"], block["status"]) == ("failed", "5.1.6")
            assert block["diagnostic-code"] == "X-APNs; 410 Unregistered"
            assert block["remote-mta"] == "dns; [127.0.0.1]"
            assert (block["x-device-token"], block["x-apns-id"]) == (DEAD, uuid_of(batch, 1))
            temporary, permanent = all_failures(bounce)
            assert not temporary
            assert permanent == {f"user@{DOMAIN}".encode()}
            assert f"To: user@{DOMAIN}" in list(bounce.iter_parts())[2].get_content()
            # In the ledger it is a message like any other, from inside, and about that one.
            process.wait(lambda: [line[4] for line in ledger(process)].count("D") == 2)
            (received,) = [line for line in ledger(process) if line[4] == "R" and line[11] == "internal"]
            assert received[3] == batch
            assert received[5:9] == ["app", "example.com", "", ""]
            assert [line[4] for line in ledger(process) if line[1] == received[1]] == ["R", "D"]
            assert [line[4] for line in ledger(process)].count("P") == 1


def test_without_a_way_to_the_sender_there_is_one_line(tmp_path: Path) -> None:
    with (
        simulator(tmp_path / "gateway") as gateway,
        engine(tmp_path / "engine", {DOMAIN: gateway.stanza}) as process,
    ):
        assert "no route for bounces" in process.diagnostics.read_text()
        batch = process.send(mcmt_message(PAYLOAD, token=DEAD), f"user@{DOMAIN}")
        process.wait(lambda: [line[4] for line in ledger(process)].count("P") == 2)
        _, line = [line for line in ledger(process) if line[4] == "P"]
        assert line[3] == batch
        assert line[13].startswith("554 5.4.4 [internal] bounce undeliverable: no stanza routes example.com")
        assert len(process.logged("P")) == 1, "the channel's log has what its channel did"


def test_a_recipient_for_whom_there_is_no_part_comes_back_too(tmp_path: Path) -> None:
    mail = b"From: app@example.com\r\nSubject: hello\r\n\r\nJust a mail.\r\n"
    with simulator(tmp_path / "gateway") as gateway, smtp_sink() as sink:
        domains = {DOMAIN: gateway.stanza, "mail.example.com": {**to_mail(sink)}, "example.com": to_mail(sink)}
        with engine(tmp_path / "engine", domains) as process:
            process.send(mail, f"user@{DOMAIN}", "user@mail.example.com")
            (bounce,) = [read(one)[1] for one in sink.messages(2) if b"\nFrom: Mail Delivery System" in one]
            (block,) = blocks(bounce)
            assert block["final-recipient"] == f"rfc822; user@{DOMAIN}"
            assert block["diagnostic-code"] == ("X-MCMT; 554 5.6.1 [internal] the message has no part for this channel")


def test_killed_between_a_failure_and_its_report_it_makes_exactly_one(tmp_path: Path) -> None:
    with (
        simulator(tmp_path / "gateway") as gateway,
        smtp_sink() as sink,
        engine(tmp_path / "engine", {DOMAIN: gateway.stanza, "*": to_mail(sink)}) as process,
    ):
        # A good token first: until one was answered, Apple has one stream for a provider token.
        process.send(mcmt_message(PAYLOAD, token=f"{GOOD}, {DEAD}, {SILENT_ONCE}"), f"user@{DOMAIN}")
        process.wait_for("P")
        process.kill()
        assert sink.messages_now() == []
        process.start()
        process.wait_for("D", 2)
        _, bounce = read(sink.messages(1)[0])
        assert [block["x-device-token"] for block in blocks(bounce)] == [DEAD]
        process.stop()
        process.start()
        process.stop()
        assert len(sink.messages_now()) == 1


def test_killed_again_and_again_every_failure_and_success_is_told_by_exactly_one_report(tmp_path: Path) -> None:
    """The log's P and D lines against the ids in the mails; a mail that came twice is one, by its Message-ID."""
    moments = random.Random(7)
    with (
        simulator(tmp_path / "gateway") as gateway,
        smtp_sink() as sink,
        engine(tmp_path / "engine", {DOMAIN: gateway.stanza, "*": to_mail(sink)}) as process,
    ):
        for _ in range(4):
            stopping = threading.Event()
            sender = threading.Thread(target=send_dead_tokens, args=(process.smtp_port, stopping))
            sender.start()
            time.sleep(moments.uniform(1.0, 1.6))  # the moment of the kill is what is tried
            process.kill()
            stopping.set()
            sender.join()
            process.start()
        told: dict[str, list[str]] = {}
        seen: set[Path] = set()

        def all_told() -> bool:
            for file in set(sink.messages_now()) - seen:
                mail = file.read_bytes()
                # A kill in the middle of a mail leaves a piece of it with the sink; the engine sends it again.
                if WHOLE.search(mail):
                    seen.add(file)
                    _, bounce = read(mail)
                    told[bounce["message-id"]] = [block["x-mcmt-delivery-id"] for block in blocks(bounce)]
            ended = len(process.logged("P")) + len(process.logged("D"))
            return sum(map(len, told.values())) == ended and not process.listing("queue", "list")

        process.wait(all_told, within=60)
        failed = Counter(line[2] for line in process.logged("P"))
        ended = failed + Counter(line[2] for line in process.logged("D"))
        assert max(ended.values()) == 1
        assert Counter(id_ for ids in told.values() for id_ in ids) == ended
        assert len(failed) > 20
        assert len(ended) > len(failed) + 10


def send_dead_tokens(port: int, stopping: threading.Event) -> None:
    number = 0
    try:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo()
            while not stopping.is_set():
                number += 1
                tokens = ", ".join(f"{word}{number:08d}".ljust(64, "0") for word in ("dead4100001", "dead4100002", "a"))
                client.mail("app@example.com")
                client.rcpt(f"user@{DOMAIN}", ["NOTIFY=SUCCESS,FAILURE"])
                client.data(mcmt_message(PAYLOAD, token=tokens))
                time.sleep(0.01)  # some messages in every state at the kill, not a load
    except (OSError, smtplib.SMTPException):
        return
