"""Keys, passwords and what is made of them stand in no output: not check's, not serve's, in no log, in no answer."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates

PASSWORD = "Tr0ub4dor-and-3"
WRONG = "correct-horse-battery"
PASSPHRASE = "open-sesame-42"


def mcmt(*arguments: str, stdin: str = "") -> str:
    """Everything that a command says, on standard output and standard error."""
    command = [sys.executable, "-m", "mcmt", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def body(key: Path) -> list[str]:
    """The lines of a key in PEM that say what it is."""
    return [line for line in key.read_text().splitlines() if line and not line.startswith("-----")]


def told(text: str, *secrets: str) -> list[str]:
    """Which of *secrets* stand in *text*, plain, in base64 or in hexadecimal."""
    found = []
    for secret in secrets:
        raw = secret.encode()
        forms = (secret, base64.b64encode(raw).decode().rstrip("="), raw.hex(), repr(raw)[2:-1])
        found += [secret for form in forms if form in text]
    return found


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert "added" in mcmt("passwd", "--users-file", str(tmp_path / "users"), "--stdin", "app", stdin=f"{PASSWORD}\n")
    return tmp_path


@contextlib.contextmanager
def session(port: int, *, tls: bool = True) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = smtplib.SMTP("127.0.0.1", port, timeout=30)
    client.ehlo()
    if tls:
        client.starttls(context=context)
        client.ehlo()
    yield client
    client.close()


def attack(port: int) -> None:
    """Every way in which a client may send a password: rightly, wrongly, too early, where none is asked for."""

    def by_plain(argument: str, code: int) -> None:
        with session(port) as client:
            assert client.docmd("AUTH", f"PLAIN {argument}")[0] == code

    def by_login() -> None:
        with session(port) as client:
            assert client.docmd("AUTH", "LOGIN")[0] == 334
            assert client.docmd(base64.b64encode(b"app").decode())[0] == 334
            assert client.docmd(base64.b64encode(WRONG.encode()).decode())[0] == 535
            assert client.docmd("MAIL", f"FROM:<app@example.com> {WRONG}")[0] >= 500

    def out_of_place() -> None:
        with session(port) as client:
            assert client.docmd(f"PASS {WRONG}")[0] == 500
            assert client.docmd(plain("app", WRONG))[0] == 500
            assert client.docmd("AUTH", f"CRAM-MD5 {plain('app', WRONG)}")[0] == 504
        with session(port, tls=False) as client:
            assert client.docmd("AUTH", f"PLAIN {plain('app', WRONG)}")[0] == 538
            assert client.docmd(plain("app", WRONG))[0] == 500

    def injected() -> None:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(f"EHLO x\r\nSTARTTLS\r\nAUTH PLAIN {plain('app', WRONG)}\r\n".encode())
            replies = b""
            while replies.count(b"\r\n220 ") + replies.startswith(b"220 ") < 2:
                replies += raw.recv(4096)

    # A wrong password is answered late, so all of them are sent at once.
    with ThreadPoolExecutor() as threads:
        attempts = [
            threads.submit(by_plain, plain("app", PASSWORD), 235),
            threads.submit(by_plain, plain("app", WRONG), 535),
            threads.submit(by_plain, plain("nobody", WRONG), 535),
            threads.submit(by_plain, plain("app", WRONG) + "!", 501),
            *(threads.submit(way) for way in (by_login, out_of_place, injected)),
        ]
        for attempt in attempts:
            attempt.result()


def test_no_secret_stands_in_any_log_diagnostic_or_answer_of_an_engine(
    folder: Path, certificates: Certificates
) -> None:
    certificate, key, users = folder / "cert.pem", folder / "key.pem", folder / "users"
    certificate.write_bytes(certificates.server.read_bytes())
    key.touch(0o600)
    key.write_bytes(certificates.server_key.read_bytes())
    listen = {
        "mcmt_reception": "allow",
        "relay_hosts": ["192.0.2.0/24"],
        "tls_certificate": str(certificate),
        "tls_key": str(key),
        "users_file": str(users),
    }
    stored = users.read_text().strip().partition(":")[2]
    with simulator(folder / "apple") as gateway:
        p8 = Path(gateway.stanza["apn_auth_key"])
        mutual = {
            "delivery_method": "smtp",
            "routes": ["smtp://127.0.0.1:1"],
            "tls_certificate": str(certificates.client),
            "tls_key": str(certificates.client_key),
        }
        domains = {"apn.example.com": gateway.stanza, "mail.example.com": mutual}
        with engine(folder / "engine", domains, esmtp_listener={"listen": {"127.0.0.1:0": listen}}) as process:
            attack(process.smtp_port)
            send(process, "user@apn.example.com")
            process.wait_for("D")
            send(process, "user@mail.example.com")
            # Afterwards what it reads anew is broken, each in the way that puts the secret where an error is.
            body_of_key = body(key)
            key.write_text("\n".join(body_of_key))
            users.write_text(f"{stored}\napp {stored}\n")
            os.utime(users, (1, 1))
            p8_lines = body(p8)
            p8.write_text("-----BEGIN PRIVATE KEY-----\n" + p8_lines[0])
            send(process, "user@apn.example.com", tries_tls=True)
            config = ("--config", str(process.config))
            answers = "".join(
                mcmt(*command.split(), *config)
                for command in (
                    "check",
                    "status",
                    "status --json",
                    "queue list",
                    "queue list --json",
                    "domain suspend mail.example.com --json",
                    "log rotate",
                    "audit --json --all",
                )
            )
        files = [path for path in (folder / "engine").rglob("*") if path.is_file() and "spool" not in path.parts]
        files.append(folder / "engine" / "spool" / "mainlog.ec")
        outputs = {str(path): path.read_text(errors="replace") for path in files if path.exists()}
        outputs["answers"] = answers
    secrets = [
        *(PASSWORD, WRONG, plain("app", PASSWORD), plain("app", WRONG), *stored.split("$")[-2:]),
        *(*body_of_key, *p8_lines, *body(certificates.client_key)),
    ]
    assert outputs[str(process.diagnostics)]  # it did complain
    assert {name: told(text, *secrets) for name, text in outputs.items() if told(text, *secrets)} == {}
    # Apple's provider token begins so, whatever it says: {"alg" in base64.
    assert [name for name, text in outputs.items() if re.search(r"eyJ[A-Za-z0-9_-]{8}", text)] == []


def send(process: EngineProcess, recipient: str, *, tries_tls: bool = False) -> None:
    if tries_tls:
        with contextlib.suppress(smtplib.SMTPException, OSError), session(process.smtp_port) as client:
            client.docmd("AUTH", f"PLAIN {plain('app', WRONG)}")
        return
    with session(process.smtp_port) as client:
        client.docmd("AUTH", f"PLAIN {plain('app', PASSWORD)}")
        client.sendmail("app@example.com", [recipient], mcmt_message(b'{"aps":{"alert":"hello"}}'))


def configuration(domain: Mapping[str, object], listen: Mapping[str, object] | None = None) -> str:
    document: Mapping[str, object] = {
        "hostname": "mx.example.com",
        "spool": {"path": "spool"},
        "esmtp_listener": {"listen": {"127.0.0.1:0": {"mcmt_reception": "allow", **(listen or {})}}},
        "domain": {"x.example.com": domain},
    }
    return yaml.safe_dump(document, width=10_000)


APN = {"delivery_method": "apn", "routes": ["apn://localhost"], "apn_topic": "t"}
SMTP = {"delivery_method": "smtp", "routes": ["smtp://localhost"]}


@pytest.mark.parametrize(
    ("domain", "options"),
    [
        (APN, ("apn_auth_key", "apn_key_id", "apn_team_id", "tls_certificate", "tls_key", "tls_ca", "apn_topic")),
        (APN, ("tls_verify", "apn_expiry", "delivery_response_timeout", "retry_interval", "max_retries", "no_such")),
        (SMTP, ("tls_certificate", "tls_key", "tls_ca", "tls", "tls_verify", "delivery_method", "smtp_password")),
        ({}, ("tls_certificate", "tls_key", "users_file", "relay_hosts", "max_message_size", "mcmt_reception")),
    ],
)
def test_a_secret_written_where_a_path_or_a_word_belongs_is_not_repeated(
    folder: Path, certificates: Certificates, domain: Mapping[str, object], options: tuple[str, ...]
) -> None:
    pem = certificates.client_key.read_text()
    lines = body(certificates.client_key)
    config = folder / "mcmt.yaml"
    for option in options:
        for value in (pem, pem.replace("\n", " "), "".join(lines), (folder / "users").read_text(), [pem], {"a": pem}):
            given: Mapping[str, object] = {option: value}
            config.write_text(configuration({**domain, **given}) if domain else configuration(SMTP, given))
            for command in ("check", "serve") if value is pem and option.startswith("tls_k") else ("check",):
                said = checked(config) if command == "check" else mcmt(command, "--config", str(config))
                assert told(said, *lines, lines[0][:20], *stored_of(folder)) == [], said


def stored_of(folder: Path) -> list[str]:
    return (folder / "users").read_text().strip().split("$")[-2:]


def checked(config: Path) -> str:
    """What ``mcmt check`` says, without a process for each of very many."""
    from click.testing import CliRunner

    from mcmt.cli import main

    done = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert done.exit_code in (0, 2), done.output
    return done.output


@pytest.mark.parametrize(
    "route",
    [
        "smtp://app:Tr0ub4dor-and-3@relay.example.com",
        "app:Tr0ub4dor-and-3@relay.example.com",
        "smtp://Tr0ub4dor-and-3@relay.example.com",
        "smtp://relay.example.com?password=Tr0ub4dor-and-3",
        "smtp://relay.example.com/?secret=Tr0ub4dor-and-3#x",
    ],
)
@pytest.mark.parametrize("method", ["apn", "smtp"])
def test_a_password_in_a_route_is_not_repeated(tmp_path: Path, route: str, method: str) -> None:
    config = tmp_path / "mcmt.yaml"
    config.write_text(configuration({"delivery_method": method, "routes": [route.replace("smtp:", f"{method}:")]}))
    said = checked(config)
    assert "routes" in said
    assert told(said, PASSWORD) == []


def test_a_passphrase_is_asked_for_by_nobody_and_what_it_protects_is_not_shown(
    tmp_path: Path, certificates: Certificates
) -> None:
    private = load_pem_private_key(certificates.client_key.read_bytes(), None)
    key = tmp_path / "key.pem"
    key.touch(0o600)
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))
    )
    config = tmp_path / "mcmt.yaml"
    certificate = {"tls_certificate": str(certificates.client), "tls_key": str(key)}
    for text in (configuration({**SMTP, **certificate}), configuration({**APN, **certificate})):
        config.write_text(text)
        said = mcmt("serve", "--config", str(config), stdin=f"{PASSPHRASE}\n")
        assert "passphrase" in said
        assert told(said, PASSPHRASE, *body(key), *body(certificates.client_key)) == []


def test_what_references_lead_to_is_in_no_answer_and_in_no_diagnostics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCMT_TEST_TEAM", "TEAMSECRET")
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("KEYSECRET1\n")
    file = tmp_path / "mcmt.yaml"
    domain = configuration({**APN, "apn_auth_key": "none.p8"})
    # In its place, in that of a path, a number, a word, a route, and beside what makes the stanza wrong.
    for stanza in (
        "apn_key_id: !file secret",
        "tls_ca: !file secret",
        "tls_verify: !env MCMT_TEST_TEAM",
        "retry_interval: !env MCMT_TEST_TEAM",
        "delivery_method: !file secret",
        "apn_topic: !file secret",
    ):
        text = domain + f"    {stanza}\n"
        file.write_text(text.replace("    delivery_method: apn\n", "") if "delivery_method" in stanza else text)
        arguments = ("--config", str(file))
        outputs = mcmt("check", *arguments) + mcmt("config", "explain", "x.example.com", *arguments)
        assert outputs
        assert not told(outputs, "KEYSECRET1", "TEAMSECRET"), stanza
