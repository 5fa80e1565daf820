"""The whole way of a message, with the real process: in over SMTP, out to the simulator, into the log."""

from __future__ import annotations

import re
import signal
import smtplib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcmt.message.identity import uuid_of
from tests.support.engine_process import TOKEN, EngineProcess, engine, mcmt_message
from tests.support.simulator_process import Simulator, simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"

MANUALS_PART = b"""Content-Type: message/vnd.msys.apn
{blank}X-Device-Token: 123acb90ffa0978cbade354ddffee76665a
{blank}{
 "aps" : {
   "alert" : "You have mail",
   "badge" : 9,
   "sound" : "dingdong.aiff"
 },
 "app-key" : "bar",
}
"""
"""Momentum's manual, "Using APNs"; there the blank lines are said to be required, and are not on the page."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway"), "--any-token-length") as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, gateway: Simulator) -> Iterator[EngineProcess]:
    domains = {
        DOMAIN: {**gateway.stanza, "retry_interval": "100ms"},
        "second.example.com": {**gateway.stanza, "retry_interval": "100ms"},
    }
    with engine(tmp_path_factory.mktemp("engine"), domains) as process:
        yield process


def lines_of(engine: EngineProcess, batch_id: str, count: int) -> list[list[str]]:
    """The notification log's lines about a batch, when there are *count*."""

    def found() -> list[list[str]]:
        return [fields for fields in engine.apnlog if fields[2].startswith(batch_id)]

    engine.wait(lambda: len(found()) >= count)
    return found()


def pushes_of(gateway: Simulator, batch_id: str) -> list[dict[str, Any]]:
    prefix = uuid_of(batch_id, 0)[:-8]
    return [push for push in gateway.received if str(push["apns_id"]).startswith(prefix)]


@pytest.mark.parametrize("blank", [b"\r\n", b""], ids=["with blank lines", "without"])
def test_the_manuals_sample_is_accepted_pushed_once_and_logged_once(
    running: EngineProcess, gateway: Simulator, blank: bytes
) -> None:
    part = MANUALS_PART.replace(b"\n", b"\r\n").replace(b"{blank}", blank)
    head = b"From: app@example.com\r\nContent-Type: multipart/vnd.msys.mcmt; boundary=MCMT_BOUNDARY\r\n\r\n"
    batch_id = running.send(head + b"--MCMT_BOUNDARY\r\n" + part + b"--MCMT_BOUNDARY--\r\n", USER)
    (line,) = lines_of(running, batch_id, 1)
    (push,) = pushes_of(gateway, batch_id)
    assert line[1] == "D"
    assert push["token"] == "123acb90ffa0978cbade354ddffee76665a"
    assert line[-1] == push["apns_id"]


def test_a_delivered_line_has_momentums_fields(running: EngineProcess, gateway: Simulator) -> None:
    batch_id = running.send(mcmt_message(b'{"aps":{"alert":"hello"}}'), USER)
    (line,) = lines_of(running, batch_id, 1)
    time, kind, delivery_id, sender, recipient, domain, group, binding, address, size, apns_id = line
    assert re.fullmatch(r"\d{10}", time)
    assert (kind, delivery_id) == ("D", f"{batch_id}-1")
    assert (sender, recipient, domain) == ('"app%example.com"', '"user"', DOMAIN)
    assert (group, binding, address) == ("default", "default", "127.0.0.1")
    assert int(size) > len('{"aps":{"alert":"hello"}}')
    assert apns_id == uuid_of(batch_id, 1)


def test_a_dead_token_is_one_permanent_failure(running: EngineProcess) -> None:
    batch_id = running.send(mcmt_message(b'{"aps":{}}', token="dead41000" + "0" * 55), USER)
    (line,) = lines_of(running, batch_id, 1)
    assert line[1] == "P"
    assert line[-2:] == ["410", "Unregistered"]


def test_500_then_200_is_one_transient_and_one_delivered_line_under_the_same_apns_id(
    running: EngineProcess, gateway: Simulator
) -> None:
    batch_id = running.send(mcmt_message(b'{"aps":{}}', token="dead500001" + "0" * 54), USER)
    transient, delivered = lines_of(running, batch_id, 2)
    assert (transient[1], delivered[1]) == ("T", "D")
    assert transient[-2:] == ["500", "InternalServerError"]
    assert transient[10] == delivered[10], "the apns-id"
    assert [push["status"] for push in pushes_of(gateway, batch_id)] == [500, 200]
    assert len({push["apns_id"] for push in pushes_of(gateway, batch_id)}) == 1


def test_a_payload_of_4000_bytes_on_one_line_arrives_byte_for_byte(running: EngineProcess, gateway: Simulator) -> None:
    payload = b'{"aps":{"alert":"%s"}}' % (b"\xc3\xa9x" * 1326)
    assert 3990 <= len(payload) <= 4010
    batch_id = running.send(mcmt_message(payload), USER)
    lines_of(running, batch_id, 1)
    (push,) = pushes_of(gateway, batch_id)
    assert str(push["payload"]).encode() == payload


def test_the_headers_of_the_part_become_those_of_the_push(running: EngineProcess, gateway: Simulator) -> None:
    headers = (
        "apns-topic: com.example.app\r\napns-push-type: background\r\napns-priority: 5\r\n"
        "apns-collapse-id: news\r\napns-expiration: 1999999999\r\napns-id: 123e4567-e89b-12d3-a456-426614174000\r\n"
    )
    batch_id = running.send(mcmt_message(b'{"aps":{"content-available":1}}', headers=headers), USER)
    (line,) = lines_of(running, batch_id, 1)
    assert line[-1] == "123e4567-e89b-12d3-a456-426614174000"
    (push,) = [push for push in gateway.received if push["apns_id"] == line[-1]]
    assert {name: push["headers"][name] for name in ("apns-push-type", "apns-priority", "apns-collapse-id")} == {
        "apns-push-type": "background",
        "apns-priority": "5",
        "apns-collapse-id": "news",
    }
    assert push["headers"]["apns-expiration"] == "1999999999"


def test_many_tokens_of_one_message_are_one_delivery_each(running: EngineProcess, gateway: Simulator) -> None:
    tokens = [f"{number:064x}" for number in range(1, 301)]
    batch_id = running.send(mcmt_message(b'{"aps":{}}', token=", ".join(tokens)), USER)
    lines = lines_of(running, batch_id, 300)
    assert Counter(line[1] for line in lines) == {"D": 300}
    assert {line[2] for line in lines} == {f"{batch_id}-{number}" for number in range(1, 301)}
    assert {push["token"] for push in pushes_of(gateway, batch_id)} == set(tokens)


def test_several_recipients_over_two_domains_are_one_delivery_each(running: EngineProcess) -> None:
    batch_id = running.send(mcmt_message(b'{"aps":{}}'), "a@second.example.com", f"b@{DOMAIN}", f"c@{DOMAIN}")
    lines = lines_of(running, batch_id, 3)
    assert sorted((line[4], line[5]) for line in lines) == [
        ('"a"', "second.example.com"),
        ('"b"', DOMAIN),
        ('"c"', DOMAIN),
    ]
    receptions = [line for line in running.mainlog if line[2] == batch_id and line[4] == "R"]
    assert len(receptions) == 3, "one reception a recipient"


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        (mcmt_message(b'{"aps":{}}', token=None), (554, b"5.1.1")),
        (mcmt_message(b'{"aps":{}}', token="xyz"), (554, b"5.1.3")),
        (mcmt_message(b'{"aps":'), (554, b"5.6.0")),
        (mcmt_message(b'{"app":1}'), (554, b"5.6.0")),
        (mcmt_message(b'{"aps":{"alert":"%s"}}' % (b"x" * 4096)), (554, b"5.3.4")),
        (mcmt_message(b'{"aps":{}}', headers="apns-priority: 7\r\n"), (554, b"5.6.0")),
        (mcmt_message(b'{"aps":{}}').replace(b"vnd.msys.apn", b"vnd.msys.gcm"), (554, b"5.6.1")),
        (mcmt_message(b'{"aps":{}}').replace(b"--B1--", b""), (554, b"5.6.0")),
        (b"Subject: plain mail\r\n\r\nhello\r\n", (554, b"5.6.1")),
    ],
    ids=["no token", "bad token", "broken JSON", "no aps", "too large", "bad header", "no part", "no end", "no MCMT"],
)
def test_bad_input_is_refused_with_a_code_and_a_sentence(
    running: EngineProcess, message: bytes, reply: tuple[int, bytes]
) -> None:
    with pytest.raises(smtplib.SMTPResponseException) as refusal:
        running.send(message, USER)
    text = refusal.value.smtp_error
    assert isinstance(text, bytes)
    assert (refusal.value.smtp_code, text.split()[0]) == reply
    assert len(text.split()) > 3, "it says what and where"


def test_an_unknown_domain_is_refused_at_rcpt(running: EngineProcess) -> None:
    with pytest.raises(smtplib.SMTPResponseException, match=r"5\.1\.2") as refusal:
        running.send(mcmt_message(b'{"aps":{}}'), "user@unknown.example.com")
    assert refusal.value.smtp_code == 550


def test_a_given_apns_id_goes_with_one_delivery_only(running: EngineProcess) -> None:
    message = mcmt_message(b'{"aps":{}}', headers="apns-id: 123e4567-e89b-12d3-a456-426614174001\r\n")
    with pytest.raises(smtplib.SMTPResponseException, match=r"5\.6\.0"):
        running.send(message, f"a@{DOMAIN}", f"b@{DOMAIN}")


def test_status_and_queue_speak_of_the_running_engine(running: EngineProcess) -> None:
    running.send(mcmt_message(b'{"aps":{}}'), USER)
    running.wait(lambda: running.listing("queue", "list") == [])
    assert running.process is not None
    assert running.status()["pid"] == running.process.pid


def test_a_second_engine_on_the_same_spool_is_refused_and_names_the_first(running: EngineProcess) -> None:
    assert running.process is not None
    second = subprocess.run(
        [sys.executable, "-m", "mcmt", "serve", "--config", str(running.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert str(running.process.pid) in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("stanza", ["spool", "log"])
def test_a_folder_that_cannot_be_written_is_refused_at_start_by_name(
    tmp_path: Path, gateway: Simulator, stanza: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    stanzas: dict[str, dict[str, Any]] = {
        "spool": {"spool": {"path": "file/spool"}},
        "log": {"apn_logger": {"apn_logger1": {"logfile": "file/apnlog.ec"}}},
    }
    process = EngineProcess(tmp_path, {DOMAIN: gateway.stanza}, **stanzas[stanza])
    done = subprocess.run(
        [sys.executable, "-m", "mcmt", "serve", "--config", str(process.config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_drains_and_ends_with_0(tmp_path: Path, gateway: Simulator) -> None:
    process = EngineProcess(tmp_path, {DOMAIN: gateway.stanza})
    process.start()
    # Answered after one second: on the wire when the signal comes.
    batch_id = process.send(mcmt_message(b'{"aps":{}}', token="fa11100" + "0" * 57), USER)
    process.wait(lambda: [domain.in_flight for domain in process.domains()] == [1])
    assert process.stop(within=20) == 0
    (line,) = process.apnlog
    assert (line[1], line[2]) == ("D", f"{batch_id}-1")


def test_sighup_reopens_the_logs_and_loses_no_line(tmp_path: Path, gateway: Simulator) -> None:
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        assert process.process is not None
        first = process.send(mcmt_message(b'{"aps":{}}'), USER)
        process.wait_for("D")
        log = tmp_path / "logs" / "apnlog.ec"
        log.rename(tmp_path / "logs" / "apnlog.ec.1")
        process.process.send_signal(signal.SIGHUP)
        process.wait(log.exists)
        second = process.send(mcmt_message(b'{"aps":{}}'), USER)
        process.wait_for("D")
    old = process.fields(tmp_path / "logs" / "apnlog.ec.1")
    assert [fields[2] for fields in old] == [f"{first}-1"]
    assert [fields[2] for fields in process.apnlog] == [f"{second}-1"]


def test_every_log_has_its_heartbeat(tmp_path: Path, gateway: Simulator) -> None:
    logger = {"apn_logger1": {"logfile": "logs/apnlog.ec", "heartbeat": 0.2}}
    with engine(tmp_path, {DOMAIN: gateway.stanza}, apn_logger=logger) as process:
        log = tmp_path / "logs" / "apnlog.ec"
        process.wait(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
        assert re.fullmatch(r"(\d{10}@M\n)+", log.read_text())


def test_a_token_is_never_taken_from_the_address_when_the_part_names_one(
    running: EngineProcess, gateway: Simulator
) -> None:
    batch_id = running.send(mcmt_message(b'{"aps":{}}'), f"{'ab' * 32}@{DOMAIN}")
    lines_of(running, batch_id, 1)
    (push,) = pushes_of(gateway, batch_id)
    assert push["token"] == TOKEN


def test_two_signals_at_once_are_one_wish_to_stop(tmp_path: Path, gateway: Simulator) -> None:
    """``timeout`` signals the process and then its group: the drain goes on all the same."""
    process = EngineProcess(tmp_path, {DOMAIN: gateway.stanza})
    process.start()
    process.send(mcmt_message(b'{"aps":{}}', token="fa11100" + "0" * 57), USER)
    process.wait(lambda: [domain.in_flight for domain in process.domains()] == [1])
    assert process.process is not None
    process.process.send_signal(signal.SIGTERM)
    assert process.stop(within=20) == 0
    assert [line[1] for line in process.apnlog] == ["D"]
