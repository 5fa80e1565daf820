"""Submission with TLS and passwords: the real process, and clients that are not ours (swaks, smtplib, openssl)."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import EngineProcess, engine
from tests.support.tls import Certificates, make_certificates
from tests.system.commands import MCMT, environment, run

DOMAINS = {"sink.example.com": {"delivery_method": "discard", "routes": ["discard://sink"]}}
MESSAGE = b"From: a@example.com\r\nSubject: hello\r\n\r\nhello\r\n"
RECIPIENT = "t@sink.example.com"
PASSWORD = "correct horse"


def tool(name: str, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: run tests/peers.sh"
    done = subprocess.run([found, *arguments], input=stdin, capture_output=True, timeout=30, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[EngineProcess]:
    """A listener that everybody has to log in to."""
    folder = tmp_path_factory.mktemp("submission")
    done = run(folder, "passwd", "--users-file", "users", "--stdin", "app", stdin=f"{PASSWORD}\n".encode())
    assert (done.returncode, done.stdout) == (0, "app added to users\n")
    certificates.server_key.chmod(0o600)
    listen = {
        "mcmt_reception": "allow",
        "relay_hosts": ["192.0.2.0/24"],
        "tls_certificate": str(certificates.server),
        "tls_key": str(certificates.server_key),
        "users_file": "users",
    }
    with engine(folder, DOMAINS, esmtp_listener={"listen": {"127.0.0.1:0": listen}}) as process:
        yield process


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_submits_with_a_password_over_tls(server: EngineProcess, mechanism: str) -> None:
    done = tool(
        "swaks",
        *("--server", f"127.0.0.1:{server.smtp_port}", "--from", "a@example.com", "--to", RECIPIENT, "--tls"),
        *("--auth", mechanism, "--auth-user", "app", "--auth-password", PASSWORD),
    )
    assert done.returncode == 0, done.stdout
    assert "TLSv1.3" in done.stdout
    assert "235 2.7.0" in done.stdout
    assert " queued" in done.stdout


def test_swaks_without_a_password_or_with_a_wrong_one_is_turned_away(server: EngineProcess) -> None:
    arguments = ("--server", f"127.0.0.1:{server.smtp_port}", "--from", "a@example.com", "--to", RECIPIENT)
    done = tool("swaks", *arguments)
    assert "530 5.7.0 log in first (STARTTLS and AUTH), or have relay_hosts name 127.0.0.1" in done.stdout
    done = tool("swaks", *arguments, "--tls", "--auth-user", "app", "--auth-password", "wrong")
    assert "535 5.7.8" in done.stdout
    # swaks offers its password only where AUTH is offered: not in plain text.
    done = tool("swaks", *arguments, "--auth-user", "app", "--auth-password", PASSWORD)
    assert "Host did not advertise authentication" in done.stderr + done.stdout


def test_smtplib_verifies_us_and_submits(server: EngineProcess, certificates: Certificates) -> None:
    with smtplib.SMTP("localhost", server.smtp_port) as client:
        client.starttls(context=ssl.create_default_context(cafile=certificates.ca))
        client.login("app", PASSWORD)
        assert client.sendmail("a@example.com", [RECIPIENT], MESSAGE) == {}
    with smtplib.SMTP("localhost", server.smtp_port) as client:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login("app", PASSWORD)
        code, text = client.docmd("AUTH", "PLAIN AGEAYg==")
        assert (code, text[:6]) == (538, b"5.7.11")


def test_the_main_log_tells_failed_logins(server: EngineProcess) -> None:
    with smtplib.SMTP("localhost", server.smtp_port) as client:
        client.starttls()
        client.ehlo()
        assert client.docmd("AUTH", "PLAIN AGludHJ1ZGVyAHg=")[0] == 535

    def logged() -> bool:
        return any("AUTH" in fields and "'intruder'" in "@".join(fields) for fields in server.mainlog)

    server.wait(logged)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_speaks_smtp_over_tls(server: EngineProcess, certificates: Certificates, version: str) -> None:
    done = tool(
        "openssl",
        *("s_client", "-starttls", "smtp", "-connect", f"localhost:{server.smtp_port}", version, "-crlf", "-quiet"),
        *("-CAfile", str(certificates.ca), "-verify_return_error", "-verify_hostname", "localhost", "-ign_eof"),
        stdin=b"EHLO x\nQUIT\n",
    )
    assert done.returncode == 0, done.stderr
    assert "250 AUTH PLAIN LOGIN" in done.stdout
    assert "221 2.0.0" in done.stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_openssl_cannot_have_old_tls(server: EngineProcess, version: str) -> None:
    done = tool(
        "openssl",
        *("s_client", "-starttls", "smtp", "-connect", f"localhost:{server.smtp_port}", version),
        *("-cipher", "ALL:@SECLEVEL=0"),
        stdin=b"QUIT\n",
    )
    assert done.returncode != 0


def test_a_renewed_certificate_serves_without_a_restart(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    listen = {"tls_certificate": str(files.server), "tls_key": str(files.server_key)}
    with engine(tmp_path / "engine", DOMAINS, esmtp_listener={"listen": {"127.0.0.1:0": listen}}) as process:

        def served() -> bytes:
            with smtplib.SMTP("localhost", process.smtp_port) as client:
                client.starttls()
                assert isinstance(client.sock, ssl.SSLSocket)
                certificate = client.sock.getpeercert(binary_form=True)
                assert certificate
                return certificate

        before = served()
        (tmp_path / "renewed").mkdir()
        renewed = make_certificates(tmp_path / "renewed")
        shutil.copy(renewed.server_key, files.server_key)
        shutil.copy(renewed.server, files.server)
        assert served() != before


def test_a_dribbling_client_does_not_keep_its_place(tmp_path: Path) -> None:
    """The real clock: an octet every 50 milliseconds, and a deadline of one second that they do not move."""
    listen = {"idle_timeout": 1}
    with engine(tmp_path, DOMAINS, esmtp_listener={"listen": {"127.0.0.1:0": listen}}) as process:
        with socket.create_connection(("127.0.0.1", process.smtp_port), timeout=0.05) as client:
            client.recv(1000)
            started = time.monotonic()
            said = b""
            while not said and time.monotonic() - started < 5:
                client.sendall(b"x")
                try:
                    said = client.recv(1000)
                except TimeoutError:
                    continue
        assert said.startswith(b"421 4.4.2 nothing came for 1 seconds (idle_timeout)")


def test_one_client_cannot_take_all_places(tmp_path: Path) -> None:
    limits = {"max_connections": 5, "max_connections_per_address": 3}
    with engine(tmp_path, DOMAINS, esmtp_listener={**limits, "listen": {"127.0.0.1:0": None}}) as process:
        held = [socket.create_connection(("127.0.0.1", process.smtp_port)) for _ in range(3)]
        for each in held:
            assert each.recv(1000).startswith(b"220")
        with socket.create_connection(("127.0.0.1", process.smtp_port)) as fourth:
            assert b"max_connections_per_address" in fourth.recv(1000)
        with socket.create_connection(("127.0.0.1", process.smtp_port), source_address=("127.0.0.2", 0)) as other:
            assert other.recv(1000).startswith(b"220")
        for each in held:
            each.close()


# -- mcmt passwd ---------------------------------------------------------------------------------------------------


CONFIG = (
    'hostname: mx\nspool: {path: spool}\nesmtp_listener: {listen: {"127.0.0.1:2525": '
    "{tls_certificate: cert.pem, users_file: users}}}\n"
    'domain: {sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}}\n'
)


def test_passwd_finds_the_users_file_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mcmt.yaml").write_text(CONFIG)
    arguments = ("passwd", "--config", "mcmt.yaml")
    file = tmp_path / "users"
    done = run(tmp_path, *arguments, "--stdin", "app", stdin=b"one")
    assert (done.returncode, done.stdout) == (0, f"app added to {file}\n")
    done = run(tmp_path, *arguments, "--stdin", "app", stdin=b"two\n")
    assert (done.returncode, done.stdout) == (0, f"password of app changed in {file}\n")
    assert file.read_text().count("app:scrypt$16384$8$5$") == 1
    done = run(tmp_path, *arguments, "--delete", "app")
    assert (done.returncode, done.stdout) == (0, f"app deleted from {file}\n")
    done = run(tmp_path, *arguments, "--delete", "app")
    assert (done.returncode, done.stderr) == (1, f"Error: {file} has no app\n")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (("a b",), b"", 2, "a name has"),
        (("app",), b"", 2, "standard input is no terminal; give the password on it with --stdin"),
        (("--stdin", "--delete", "app"), b"", 2, "--delete needs no password"),
        (("--stdin", "app"), b"\n", 1, "a password cannot be empty; nothing was changed"),
        (("--stdin", "app"), b"\xff\n", 1, "a password is UTF-8; nothing was changed"),
        ((), b"", 2, "Missing argument"),
    ],
)
def test_passwd_says_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], stdin: bytes, code: int, said: str
) -> None:
    done = run(tmp_path, "passwd", "--users-file", "users", *arguments, stdin=stdin)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "users").exists()


def test_passwd_without_a_users_file_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mcmt.yaml").write_text(CONFIG.replace(", users_file: users", ""))
    done = run(tmp_path, "passwd", "--config", "mcmt.yaml", "--stdin", "app", stdin=b"x\n")
    assert done.returncode == 2
    assert "the configuration names no users_file; name one with --users-file FILE" in done.stderr


@pytest.mark.parametrize(("second", "code"), [(b"secret\n", 0), (b"sekret\n", None)])
def test_passwd_asks_a_terminal_twice_and_shows_nothing(tmp_path: Path, second: bytes, code: int | None) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(MCMT, ["mcmt", "passwd", "--users-file", "users", "app"], environment())
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            try:
                shown += os.read(terminal, 1000)
            except OSError:
                break

    try:
        until(b"Password: ")
        os.write(terminal, b"secret\n")
        until(b"Once more: ")
        os.write(terminal, second)
        if code is None:
            until(b"do not match")
            os.kill(child, signal.SIGINT)
        else:
            until(b"added to")
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    assert b"secret" not in shown
    assert (tmp_path / "users").exists() == (code == 0)
    assert (os.waitstatus_to_exitcode(status) == 0) == (code == 0)


def test_check_and_serve_tell_what_is_wrong_with_the_files(tmp_path: Path, certificates: Certificates) -> None:
    config = CONFIG.replace("cert.pem", f"{certificates.server}, tls_key: {certificates.client_key}")
    (tmp_path / "mcmt.yaml").write_text(config)
    done = run(tmp_path, "check", "mcmt.yaml")
    assert done.returncode == 2
    assert "tls_certificate: " in done.stderr
    assert "the key is not that of the certificate" in done.stderr
    assert f"users_file: {tmp_path / 'users'} cannot be read: No such file or directory; make it with: mcmt passwd" in (
        done.stderr
    )
    assert run(tmp_path, "serve", "--config", "mcmt.yaml").stderr == done.stderr
