"""Clients that may not: from an address that is not listed, before TLS, with passwords that they guess.

The real process, in one and in two workers: what is counted is counted for the machine.
"""

from __future__ import annotations

import base64
import contextlib
import smtplib
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import EngineProcess, engine
from tests.support.tls import Certificates

SINK = {"sink.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]}}
ALLOWED = 4
PASSWORD = "Tr0ub4dor-and-3"


def client(process: EngineProcess, address: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30, source_address=(address, 0))


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_not_listed_relays_nothing_whatever_is_tried(tmp_path: Path, workers: int) -> None:
    listen: dict[str, Any] = {"listen": {"127.0.0.1:0": {"relay_hosts": ["127.0.0.1/32"]}}}
    with engine(tmp_path, SINK, esmtp_listener=listen, workers=workers) as process:
        for _ in range(2 * workers):
            with client(process, "127.0.0.2") as stranger:
                # RFC 5321 4.1.1.1: what a client calls itself is not believed.
                stranger.ehlo("[127.0.0.1]")
                for sender in ("app@example.com", "", "root@localhost", "postmaster@mx.example.com"):
                    code, text = stranger.mail(sender)
                    assert (code, text[:30]) == (550, b"5.7.1 127.0.0.2 may not submit")
                    assert stranger.rcpt("t@sink.example.com")[0] == 503
                    assert stranger.docmd("DATA")[0] == 503
        with client(process) as listed:
            assert listed.sendmail("app@example.com", ["t@sink.example.com"], "x") == {}
        process.wait(lambda: any(line[4] == "D" for line in process.mainlog))
        assert [line[4] for line in process.mainlog if line[4] in "RD"] == ["R", "D"]
        refused = [line for line in process.mainlog if line[4] == "J"]
        assert {line[5] for line in refused} == {"127.0.0.2"}
        assert len(refused) == 8 * workers


@contextlib.contextmanager
def guarded(folder: Path, certificates: Certificates, workers: int) -> Iterator[EngineProcess]:
    """An engine that wants a password of everybody."""
    folder.mkdir(exist_ok=True)
    users = folder / "users"
    done = subprocess.run(
        [sys.executable, "-m", "mcmt", "passwd", "--users-file", str(users), "--stdin", "app"],
        input=PASSWORD.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listen = {
        "relay_hosts": ["192.0.2.0/24"],
        "tls_certificate": str(certificates.server),
        "tls_key": str(certificates.server_key),
        "users_file": str(users),
    }
    limits: dict[str, Any] = {"auth_failures_per_address": ALLOWED, "listen": {"127.0.0.1:0": listen}}
    with engine(folder / "engine", SINK, esmtp_listener=limits, workers=workers) as process:
        yield process


def attempt(process: EngineProcess, password: str, address: str = "127.0.0.1") -> int:
    """The code of one login in a session of its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with client(process, address) as session:
        session.ehlo()
        session.starttls(context=context)
        session.ehlo()
        plain = base64.b64encode(f"\0app\0{password}".encode()).decode()
        return session.docmd("AUTH", f"PLAIN {plain}")[0]


def test_guesses_are_counted_over_all_sessions_and_workers(tmp_path: Path, certificates: Certificates) -> None:
    workers = 2
    with guarded(tmp_path, certificates, workers) as process, ThreadPoolExecutor(16) as at_once:
        guesses = [at_once.submit(attempt, process, f"guess{number}") for number in range(16)]
        codes = Counter(guess.result() for guess in guesses)
        # Counted from the beginning of each, so that many at once get no more than one after another; a worker hears
        # of another's a moment later.
        assert codes.keys() <= {535, 421}
        assert ALLOWED <= codes[535] <= ALLOWED * workers
        again = [at_once.submit(attempt, process, PASSWORD) for _ in range(8)]
        assert Counter(each.result() for each in again) == {421: 8}
        # Who guesses locks nobody out but his own address.
        others = [at_once.submit(attempt, process, PASSWORD, "127.0.0.2") for _ in range(4)]
        assert Counter(each.result() for each in others) == {235: 4}
        assert not any(line[4] == "R" for line in process.mainlog)


INJECTED = {
    "a transaction": b"EHLO evil\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<t@sink.example.com>\r\nDATA\r\nx\r\n.\r\n",
    "half a command": b"MAIL FROM:<evil@exam",
    "a login": b"AUTH PLAIN " + base64.b64encode(b"\0app\0" + PASSWORD.encode()) + b"\r\n",
    "half a login": b"AUTH LOGIN\r\n" + base64.b64encode(b"app") + b"\r\n",
    "another STARTTLS": b"STARTTLS\r\nEHLO evil\r\n",
    "a line end": b"\r\n",
}


@pytest.mark.parametrize("name", INJECTED)
@pytest.mark.parametrize("behind", [0, 1, 9])
def test_what_was_said_in_clear_is_not_heard_within_tls(guard: EngineProcess, name: str, behind: int) -> None:
    """In the packet of STARTTLS, and with the first octets of what is injected before it: CVE-2011-0411 and its kin."""
    process = guard
    injected = INJECTED[name]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", process.smtp_port), timeout=20) as raw:
        assert raw.recv(1000).startswith(b"220")
        raw.sendall(b"EHLO x\r\n")
        while not raw.recv(1000).endswith(b"\r\n250 STARTTLS\r\n"):
            pass
        command = b"STARTTLS\r\n" + injected
        cut = len(b"STARTTLS\r\n") - behind if behind else len(command)
        raw.sendall(command[:cut])
        raw.sendall(command[cut:])
        said = b""
        while not said.endswith(b"220 2.0.0 begin TLS now\r\n"):
            said += raw.recv(1)
        # What came in a packet of its own may still be on its way: then it is no TLS, and the session is over.
        try:
            secure = context.wrap_socket(raw)
        except (ssl.SSLError, ConnectionError):
            assert behind, "it came in one packet"
            return
        with secure:
            secure.sendall(b"NOOP\r\n")
            assert secure.recv(1000) == b"250 2.0.0 OK\r\n"
            # RFC 3207 4.2: nothing that was known before is known now.
            secure.sendall(b"MAIL FROM:<app@example.com>\r\n")
            assert secure.recv(1000).startswith(b"503 5.5.1 send EHLO first")
            secure.sendall(b"EHLO x\r\n")
            assert b"AUTH" in secure.recv(1000)
            secure.sendall(b"MAIL FROM:<app@example.com>\r\n")
            assert secure.recv(1000).startswith(b"530 5.7.0 ")
    assert not any(line[4] == "R" for line in process.mainlog)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "plain", "CRAM-MD5", "EXTERNAL", ""])
def test_no_mechanism_takes_a_password_before_tls(guard: EngineProcess, mechanism: str) -> None:
    plain = base64.b64encode(f"\0app\0{PASSWORD}".encode()).decode()
    with client(guard) as session:
        assert "auth" not in session.ehlo()[1].decode().lower()
        code, text = session.docmd("AUTH", f"{mechanism} {plain}".strip())
        assert (code, text.split()[0]) == (538, b"5.7.11")
        assert session.mail("app@example.com")[0] == 530


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[EngineProcess]:
    """One engine for all tests that leave nothing behind."""
    with guarded(tmp_path_factory.mktemp("guard"), certificates, 1) as process:
        yield process
