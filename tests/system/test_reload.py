"""The configuration read again by a running engine, of one process and of two: nothing that is under way is hurt."""

from __future__ import annotations

import json
import signal
import smtplib
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, apn_domain, engine, mcmt_message
from tests.support.peers import find_program, nginx
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates, make_certificates

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
SLOW = "fa11100" + "0" * 57
"""A token that the simulator answers after one second."""
MESSAGES = 1500
WORKERS = pytest.mark.parametrize("workers", [1, 2])


def edit(process: EngineProcess, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the configuration's file."""
    document = yaml.safe_load(process.config.read_text())
    change(document)
    process.config.write_text(yaml.safe_dump(document, sort_keys=False))


def set_domain(process: EngineProcess, **options: Any) -> None:
    edit(process, lambda document: document["domain"][DOMAIN].update(options))


def reload(process: EngineProcess, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        process.command("reload", *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done


def discarding(**options: Any) -> Mapping[str, Any]:
    return {"delivery_method": "discard", "routes": ["discard://sink"], **options}


@WORKERS
def test_a_reload_under_load_loses_no_message_and_doubles_none(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    """New connections each time, with a message on its way at any moment: the gateway has every one once."""
    with (
        nginx(tmp_path / "nginx", certificates) as peer,
        engine(tmp_path / "engine", {DOMAIN: apn_domain(peer.port, certificates)}, workers=workers) as process,
    ):
        message = tmp_path / "message"
        message.write_bytes(mcmt_message(PAYLOAD).replace(b"\r\n", b"\n"))
        load = subprocess.Popen(
            [
                *(find_program("smtp-source"), "-s", "8", "-m", str(MESSAGES), "-f", "app@example.com", "-t", USER),
                *("-F", str(message), f"inet:127.0.0.1:{process.smtp_port}"),
            ]
        )
        reloads = 0
        while load.poll() is None or not reloads:
            reloads += 1
            set_domain(process, max_outbound_connections=3 + reloads % 5, idle_timeout=100 + reloads)
            assert f"domain.{DOMAIN}.idle_timeout: changed" in reload(process).stdout
        assert load.returncode == 0
        assert reloads > 1
        process.wait_for("D", MESSAGES, within=40)
        requests = Counter(request.apns_id for request in peer.requests())
    assert len(requests) == MESSAGES
    assert set(requests.values()) == {1}
    lines = Counter(line[2] for line in process.logged("D"))
    assert len(lines) == MESSAGES
    assert set(lines.values()) == {1}


@WORKERS
def test_queued_mail_follows_the_new_route(tmp_path: Path, certificates: Certificates, workers: int) -> None:
    """The old route has nobody behind it; what waits for it goes where the file says now, at once."""
    with (
        nginx(tmp_path / "nginx", certificates) as peer,
        engine(tmp_path / "engine", {DOMAIN: apn_domain(9, certificates)}, workers=workers) as process,
    ):
        accepted = [process.send(mcmt_message(PAYLOAD), USER) for _ in range(4)]
        process.wait(lambda: [domain.state for domain in process.domains()] == ["down"])
        set_domain(process, routes=[f"apn://localhost:{peer.port}"])
        told = reload(process)
        assert f"domain.{DOMAIN}.routes: changed" in told.stdout
        process.wait_for("D", 4)
        assert {request.apns_id for request in peer.requests()} == {uuid_of(one, 1) for one in accepted}


@WORKERS
def test_sighup_reloads_and_what_is_in_flight_is_answered(tmp_path: Path, workers: int) -> None:
    """A push that the gateway has not answered yet keeps its connection; the next one has a new one."""
    with (
        simulator(tmp_path / "simulator") as gateway,
        engine(tmp_path / "engine", {DOMAIN: gateway.stanza}, workers=workers) as process,
    ):
        assert process.process is not None
        process.send(mcmt_message(PAYLOAD, token=SLOW), USER)
        process.wait(lambda: [domain.in_flight for domain in process.domains()] == [1])
        set_domain(process, idle_timeout=77)
        process.process.send_signal(signal.SIGHUP)
        process.wait(lambda: "was reloaded" in process.diagnostics.read_text())
        process.send(mcmt_message(PAYLOAD), USER)
        process.wait_for("D", 2)
        tokens = Counter(push["token"] for push in gateway.received)
        assert tokens[SLOW] == 1
        assert sum(tokens.values()) == 2
        assert not process.logged("T")


@WORKERS
def test_a_session_in_data_survives_and_its_message_goes_by_the_new_settings(tmp_path: Path, workers: int) -> None:
    with engine(tmp_path, {DOMAIN: discarding(), "old.example.com": discarding()}, workers=workers) as process:
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=20) as client:
            client.ehlo()
            client.mail("app@example.com")
            client.rcpt(USER)
            assert client.docmd("DATA")[0] == 354
            client.send(b"Subject: begun\r\n\r\nbefore\r\n")
            set_domain(process, routes=["discard://other"])
            edit(process, lambda document: document["domain"].pop("old.example.com"))
            edit(process, lambda document: document["domain"].update({"new.example.com": discarding()}))
            told = reload(process).stdout
            assert "domain.new.example.com: new\n" in told
            assert "domain.old.example.com: removed\n" in told
            client.send(b"after\r\n.\r\n")
            assert client.getreply()[0] == 250
            client.mail("app@example.com")
            assert client.rcpt("user@new.example.com")[0] == 250
            assert client.rcpt("user@old.example.com")[0] == 550
        process.wait(lambda: sum(fields[4] == "D" for fields in process.mainlog) == 1)


@WORKERS
def test_a_faulty_file_changes_nothing_and_says_why(tmp_path: Path, workers: int) -> None:
    with engine(tmp_path, {DOMAIN: discarding()}, workers=workers) as process:
        assert process.process is not None
        edit(process, lambda document: document["domain"].update({"new.example.com": discarding()}))
        set_domain(process, retry_interval="soon", tls_certificat="x")
        told = reload(process, code=2)
        assert f"domain.{DOMAIN}.retry_interval" in told.stderr
        assert f"domain.{DOMAIN}.tls_certificat" in told.stderr
        process.process.send_signal(signal.SIGHUP)
        process.wait(lambda: "nothing was changed" in process.diagnostics.read_text())
        assert f"domain.{DOMAIN}.retry_interval" in process.diagnostics.read_text()
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            process.send(mcmt_message(PAYLOAD), "user@new.example.com")
        assert refused.value.smtp_code == 550
        process.send(b"Subject: still\r\n\r\nhere\r\n", USER)


@WORKERS
def test_a_certificate_that_cannot_be_loaded_changes_nothing(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    """Which only those can see who open it: the running engine says so, and no worker goes on by it."""
    listen = {"listen": {"127.0.0.1:0": {"tls_certificate": str(tmp_path / "none.pem")}}}
    with engine(tmp_path, {DOMAIN: discarding()}, workers=workers) as process:
        edit(process, lambda document: document.update(esmtp_listener=listen))
        told = reload(process, code=2)
        assert "none.pem" in told.stderr
        assert "nothing was changed" in told.stderr
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=20) as client:
            client.ehlo()
            assert not client.has_extn("starttls")


@WORKERS
def test_the_peer_sees_the_new_certificate_at_the_next_handshake(tmp_path: Path, workers: int) -> None:
    """Of the listener, by another name in the file; a session that is open goes on with the old one."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "two")

    def listen(files: Certificates) -> dict[str, Any]:
        return {"listen": {"127.0.0.1:0": {"tls_certificate": str(files.server), "tls_key": str(files.server_key)}}}

    with engine(tmp_path / "engine", {DOMAIN: discarding()}, workers=workers, esmtp_listener=listen(first)) as process:

        def connect(files: Certificates) -> smtplib.SMTP:
            client = smtplib.SMTP("localhost", process.smtp_port, timeout=20)
            client.starttls(context=ssl.create_default_context(cafile=str(files.ca)))
            return client

        with connect(first) as old:
            edit(process, lambda document: document.update(esmtp_listener=listen(second)))
            told = reload(process).stdout
            assert 'esmtp_listener.listen."127.0.0.1:0".tls_certificate: changed\n' in told
            with connect(second) as new:
                assert new.noop()[0] == 250
            assert old.noop()[0] == 250


@WORKERS
def test_check_shows_what_would_change_and_what_needs_a_restart_is_named(tmp_path: Path, workers: int) -> None:
    with engine(tmp_path, {DOMAIN: discarding()}, workers=workers) as process:

        def change(document: dict[str, Any]) -> None:
            document["workers"] = 3
            document["spool"]["path"] = "elsewhere"
            document["control"] = {"socket": "spool/control.sock"}
            document["max_resident_messages"] = 5000
            document["apn_logger"]["apn_logger1"]["heartbeat"] = 7
            document["domain"]["new.example.com"] = discarding()

        edit(process, change)
        checked = json.loads(reload(process, "--check", "--json").stdout)
        assert checked["check"]
        with pytest.raises(smtplib.SMTPResponseException):
            process.send(b"Subject: not yet\r\n\r\n", "user@new.example.com")
        done = json.loads(reload(process, "--json").stdout)
        assert {**done, "check": True} == checked
        assert done["domains"] == [{"stanza": "new.example.com", "change": "new", "options": []}]
        assert done["options"] == ["max_resident_messages", "apn_logger.apn_logger1.heartbeat"]
        assert done["restart"] == ["workers", "spool"]
        process.send(b"Subject: now\r\n\r\n", "user@new.example.com")
        again = reload(process).stdout
        assert "spool: changed, and holds only after a restart\n" in again
        assert "new.example.com" not in again


def test_a_worker_that_is_started_again_begins_by_what_was_reloaded(tmp_path: Path) -> None:
    """But for what needs a restart: its shard is where it was."""
    with engine(tmp_path, {DOMAIN: discarding()}, workers=2) as process:
        edit(process, lambda document: document["domain"].update({"new.example.com": discarding()}))
        edit(process, lambda document: document["spool"].update(path="elsewhere"))
        edit(process, lambda document: document.update(control={"socket": "spool/control.sock"}))
        reload(process)
        before = process.status()["workers"]
        for pid in before:
            subprocess.run(["kill", "-9", str(pid)], check=True)
        deadline = time.monotonic() + 20
        while len(set((status := process.status())["workers"]) - set(before)) < 2 or status["missing"]:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)  # the engine tells of its workers when it is asked
        for _ in range(4):
            process.send(b"Subject: again\r\n\r\n", "user@new.example.com")
        process.wait(lambda: sum(fields[4] == "D" for fields in process.mainlog) == 4)
        assert not (tmp_path / "elsewhere").exists()


@WORKERS
def test_what_a_removed_stanza_leaves_queued_goes_when_it_is_put_back(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    with (
        nginx(tmp_path / "nginx", certificates) as peer,
        engine(
            tmp_path / "engine", {DOMAIN: apn_domain(9, certificates), "b.example.com": discarding()}, workers=workers
        ) as process,
    ):
        for _ in range(4):
            process.send(mcmt_message(PAYLOAD), USER)
        edit(process, lambda document: document["domain"].pop(DOMAIN))
        reload(process)
        process.wait(lambda: [(one.state, one.queued) for one in process.domains()] == [("no stanza", 4)])
        edit(process, lambda document: document["domain"].update({DOMAIN: apn_domain(peer.port, certificates)}))
        reload(process)
        process.wait_for("D", 4)


def test_5000_domains_with_50_certificates_are_reloaded_under_load_and_lose_and_double_nothing(
    tmp_path: Path, certificates: Certificates
) -> None:
    """Mail for all of them goes on its way while the file is read and every stanza changes."""
    domains, files = 5000, 50
    key = tmp_path / "key.pem"
    key.touch(0o600)
    key.write_bytes(certificates.client_key.read_bytes())
    for number in range(files):
        (tmp_path / f"{number}.pem").write_bytes(certificates.client.read_bytes())

    def stanza(port: int, number: int) -> dict[str, Any]:
        own = {"tls_certificate": str(tmp_path / f"{number % files}.pem"), "tls_key": str(key)}
        return {**apn_domain(port, certificates), **own, "max_outbound_connections": 1, "idle_timeout": "1s"}

    with (
        nginx(tmp_path / "nginx", certificates) as peer,
        engine(
            tmp_path / "engine",
            {f"app{number}.example.com": stanza(peer.port, number) for number in range(domains)},
            workers=2,
        ) as process,
    ):
        over = threading.Event()

        def submit(part: int) -> int:
            with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=60) as client:
                client.ehlo()
                sent = 0
                while not over.wait(0.01):
                    domain = f"app{(sent * 4 + part) % 400 * 12}.example.com"
                    client.sendmail("app@example.com", [f"user@{domain}"], mcmt_message(PAYLOAD))
                    sent += 1
                return sent

        with ThreadPoolExecutor(4) as senders:
            load = [senders.submit(submit, part) for part in range(4)]
            try:
                process.wait_for("D", 1)
                text = process.config.read_text()
                process.config.write_text(text.replace("idle_timeout: 1s", "idle_timeout: 2s"))
                assert "app4999.example.com.idle_timeout: changed" in reload(process).stdout
            finally:
                over.set()
            sent = sum(one.result(60) for one in load)
        assert sent > 100
        process.wait_for("D", sent, within=60)
        requests = Counter(request.apns_id for request in peer.requests())
    assert len(requests) == sent
    assert set(requests.values()) == {1}
    assert Counter(line[2] for line in process.logged("D")).most_common(1)[0][1] == 1
