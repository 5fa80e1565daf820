"""``mcmt top`` of a real engine, in a pipe and in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import Simulator, simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{}}')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def mcmt(process: EngineProcess, *arguments: str) -> str:
    command = [sys.executable, "-m", "mcmt", *arguments, "--config", str(process.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_one_snapshot_shows_rates_queues_and_why_a_route_is_suspended(
    tmp_path: Path, gateway: Simulator, workers: int
) -> None:
    with engine(tmp_path, {DOMAIN: gateway.stanza}, workers=workers) as process:
        process.listing("domain", "suspend", DOMAIN, "--reason", "new certificate")
        process.send(MESSAGE, USER)
        process.wait(lambda: process.status()["queued"] == 1)
        lines = mcmt(process, "top", "--once").splitlines()
        assert "queued 1" in lines[0]
        row = next(number for number, line in enumerate(lines) if line.startswith(DOMAIN))
        assert lines[row].split()[1] == "suspended"
        assert "by hand; new certificate" in lines[row + 1]
        told = json.loads(mcmt(process, "top", "--json", "--interval", "0.2"))
        assert told["per_second"][DOMAIN] == {"accepted": 0, "delivered": 0, "transient": 0, "permanent": 0}
        assert [domain["domain"] for domain in told["domains"]] == [DOMAIN]


def test_a_terminal_is_drawn_again_and_left_as_it_was(tmp_path: Path, gateway: Simulator) -> None:
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        screen, mine = Terminal(process), DOMAIN.encode()
        screen.until(lambda shown: shown.count(b"\x1b[H") >= 2)
        process.send(MESSAGE, USER)
        process.wait_for("D")
        # A rate above zero: the delivery was seen between two looks.
        screen.until(lambda shown: re.search(rb"delivered (?!0\.0)\d", shown) is not None)
        assert mine in screen.shown
        assert screen.end() == 0
        assert screen.shown.startswith(b"\x1b[?1049h")
        assert screen.shown.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")


class Terminal:
    """A terminal in which ``mcmt top`` runs."""

    def __init__(self, process: EngineProcess) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "mcmt", "top", "--interval", "0.2", "--config", str(process.config)]
        environment = {**os.environ, "COLUMNS": "120", "LINES": "20"}
        self._process = subprocess.Popen(command, stdout=theirs, env=environment)
        os.close(theirs)
        self.shown = b""

    def until(self, seen: object, within: float = 20.0) -> None:
        deadline = time.monotonic() + within
        while not seen(self.shown):  # type: ignore[operator] # a function
            assert time.monotonic() < deadline, self.shown
            if not self._read(0.2):
                assert self._process.poll() is None, self.shown

    def _read(self, within: float) -> bool:
        if not select.select([self._ours], [], [], within)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data
        return bool(data)

    def end(self) -> int:
        """Ctrl-C, and the exit code."""
        self._process.send_signal(signal.SIGINT)
        while self._read(2.0):
            pass
        code = self._process.wait(10)
        os.close(self._ours)
        return code
