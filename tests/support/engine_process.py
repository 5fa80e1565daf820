"""The real process, `mcmt serve`, with a configuration of its own in a folder of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mcmt.control.client import ControlClient
from mcmt.control.protocol import DomainStatus, Status
from tests.support.tls import Certificates

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TOKEN = "0123456789abcdef" * 4


def apn_domain(port: int, certificates: Certificates, **options: Any) -> dict[str, Any]:
    """A stanza for a gateway on loopback, with a client certificate."""
    return {
        "delivery_method": "apn",
        "routes": [f"apn://localhost:{port}"],
        "tls_certificate": str(certificates.client),
        "tls_key": str(certificates.client_key),
        "tls_ca": str(certificates.ca),
        "apn_topic": "com.example.app",
        **options,
    }


def end_with_the_tests() -> None:
    """In the child: be killed when whoever started it is gone, so that no engine outlives an interrupted test."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class EngineProcess:
    """One folder with a configuration, and the engine that runs on it, again and again if need be."""

    def __init__(self, folder: Path, domains: Mapping[str, Any], **stanzas: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        self.config = folder / "mcmt.yaml"
        document = {
            "hostname": "mx.example.com",
            "spool": {"path": "spool"},
            "esmtp_listener": {"listen": {"127.0.0.1:0": {"mcmt_reception": "allow"}}},
            "domain": dict(domains),
            "apn_logger": {"apn_logger1": {"logfile": "logs/apnlog.ec"}},
            "ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec"}},
            **stanzas,
        }
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))
        self.process: subprocess.Popen[str] | None = None
        self.python = sys.executable
        self.smtp_port = 0
        self.smtp = "listen" in document["esmtp_listener"]
        self.gateway = "apns_gateway" in stanzas
        self.gateway_port = self.feedback_port = 0
        self.doors = {name: 0 for name in ("pyapns", "propeller", "http_listener") if name in stanzas}
        """The ports of the doors that speak HTTP."""
        self.diagnostics = folder / "stderr"

    def start(self, **options: Any) -> None:
        """Start it and return when it says where it listens."""
        self.launch(**options)
        if self.smtp:
            self.smtp_port = int(self._said(r"SMTP on \S*:(\d+)")[1])
        if self.gateway:
            # Said in one breath: the lines may be in Python's buffer already, where select does not see them.
            assert self.process is not None
            assert self.process.stdout is not None
            lines = [self.process.stdout.readline() for _ in range(2)]
            self.gateway_port, self.feedback_port = [int(line.rpartition(":")[2]) for line in lines]
        for name in self.doors:
            assert self.process is not None
            assert self.process.stdout is not None
            self.doors[name] = int(self.process.stdout.readline().rpartition(":")[2])

    def launch(self, **options: Any) -> None:
        """Start it."""
        command = [self.python, "-m", "mcmt", "serve", "--config", str(self.config)]
        with self.diagnostics.open("a") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, preexec_fn=end_with_the_tests, **options
            )

    def _said(self, pattern: str, within: float = 60.0) -> re.Match[str]:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + within
        said = ""
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if readable:
                line = self.process.stdout.readline()
                said += line
                if match := re.search(pattern, line):
                    return match
                assert line, f"ended: {said}{self.diagnostics.read_text()}"
        raise AssertionError(f"{pattern} was not said: {said}{self.diagnostics.read_text()}")

    def kill(self) -> None:
        """kill -9: no goodbye."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self, within: float = 30.0) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap(within)

    def _reap(self, within: float = 10.0) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(within)
        self.process.stdout.close()
        self.process = None
        return code

    @property
    def apnlog(self) -> list[list[str]]:
        """The notification log's lines but for heartbeats, as fields. Addresses are quoted in D and T, not in P."""
        return [fields for fields in self.fields(self.folder / "logs" / "apnlog.ec") if fields[1] != "M"]

    @property
    def mainlog(self) -> list[list[str]]:
        """The main log's lines but for heartbeats."""
        return [fields for fields in self.fields(self.folder / "logs" / "mainlog.ec") if fields[4] != "M"]

    @staticmethod
    def fields(file: Path) -> list[list[str]]:
        lines = file.read_text().splitlines() if file.exists() else []
        # No test sends an address with two @; the sender's own @ is hidden so that fields are fields.
        return [line.replace("app@example.com", "app%example.com").split("@") for line in lines]

    def logged(self, kind: str) -> list[list[str]]:
        """Lines of the notification log of one kind: D, T or P."""
        return [fields for fields in self.apnlog if fields[1] == kind]

    def wait(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Return when *condition* holds; the engine must be running."""
        deadline = time.monotonic() + within
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.diagnostics.read_text()
            assert time.monotonic() < deadline, (self.apnlog[-5:], self.diagnostics.read_text()[-2000:])
            time.sleep(0.02)  # files have no event to wait for

    def wait_for(self, kind: str, count: int = 1, within: float = 20.0) -> list[list[str]]:
        """The lines of that kind, when there are *count*."""
        self.wait(lambda: len(self.logged(kind)) >= count, within)
        return self.logged(kind)

    def send(self, message: bytes, *recipients: str, sender: str = "app@example.com") -> str:
        """Submit by smtplib; the batch id that the engine answered with. SMTPResponseException when it refuses."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=30) as client:
            client.ehlo()
            for code, text in (client.mail(sender), *(client.rcpt(recipient) for recipient in recipients)):
                if code != 250:
                    raise smtplib.SMTPResponseException(code, text)
            code, text = client.data(message)
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
        match = re.fullmatch(rb"2\.0\.0 ([0-9a-f]{24}) queued", text)
        assert match, text
        return match[1].decode()

    def status(self) -> dict[str, Any]:
        """What ``mcmt status`` says."""
        status: dict[str, Any] = json.loads(self._command("status"))
        return status

    def domains(self) -> list[DomainStatus]:
        """What the engine itself says of its domains: at once, where starting a command would miss the moment."""
        with ControlClient(self.folder / "spool" / "control.sock") as client:
            items = list(client.ask_raw(Status()))
        return [msgspec.json.decode(item, type=DomainStatus) for item in items[1:]]

    def operate(self, *arguments: str) -> None:
        """Have a command carried out: ``domain suspend`` and its like."""
        self._command(*arguments)

    def listing(self, *arguments: str) -> list[dict[str, Any]]:
        """What ``mcmt queue list`` and its like say: an object a line."""
        return [json.loads(line) for line in self._command(*arguments).splitlines()]

    def command(self, *arguments: str) -> list[str]:
        """The command line of a command of ``mcmt`` about this engine."""
        return [sys.executable, "-m", "mcmt", *arguments, "--config", str(self.config)]

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command(*arguments), "--json"], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def resident_bytes(self) -> int:
        """The process's resident memory."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def engine(folder: Path, domains: Mapping[str, Any], **stanzas: Any) -> Iterator[EngineProcess]:
    """A running engine, ended afterwards whatever happened."""
    process = EngineProcess(folder, domains, **stanzas)
    process.start()
    try:
        yield process
    finally:
        if process.process is not None:
            try:
                process.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def mcmt_message(payload: bytes, *, token: str | None = TOKEN, headers: str = "", boundary: str = "B1") -> bytes:
    """An MCMT message with one apn part."""
    inner = (f"X-Device-Token: {token}\r\n" if token else "") + headers
    return (
        (
            f"From: app@example.com\r\nTo: user@apn.example.com\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: multipart/vnd.msys.mcmt; boundary={boundary}\r\n\r\n"
            f"--{boundary}\r\nContent-Type: message/vnd.msys.apn\r\n\r\n{inner}\r\n"
        ).encode()
        + payload
        + f"\r\n--{boundary}--\r\n".encode()
    )
