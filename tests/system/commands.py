"""The ``mcmt`` command as a user has it: real processes in a folder of their own, each of them ended with the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MCMT = Path(sys.executable).with_name("mcmt")
TIMEOUT = 60.0


def run(folder: Path, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command in *folder* to its end."""
    done = subprocess.run(
        [MCMT, *arguments],
        cwd=folder,
        env=environment(),
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def environment() -> dict[str, str]:
    """This process's, without what would lead a command elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("MCMT_CONFIG", "NOTIFY_SOCKET")}


class Command:
    """A command that stays: its lines are gathered as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [MCMT, *arguments],
            cwd=folder,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._came = threading.Condition()
        self._open = 2
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._came:
                    lines.append(line.rstrip("\n"))
                    self._came.notify_all()
        with self._came:
            self._open -= 1
            self._came.notify_all()

    def wait_for(self, text: str, *, errors: bool = False) -> str:
        """The first line with *text* in it, on standard output or on standard error."""
        lines = self.errors if errors else self.lines

        def seen() -> str | None:
            return next((line for line in lines if text in line), None)

        with self._came:
            self._came.wait_for(lambda: seen() is not None or not self._open, TIMEOUT)
            line = seen()
        assert line is not None, f"{text!r} did not come:\n" + "\n".join([*self.lines, *self.errors])
        return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(TIMEOUT)
        for reader in self._readers:
            reader.join(TIMEOUT)
        return code

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.wait()


@contextlib.contextmanager
def staying(folder: Path, *arguments: str) -> Iterator[Command]:
    """A command that is ended with the block, if it has not ended before."""
    command = Command(folder, *arguments)
    try:
        yield command
    finally:
        command.kill()


def minimal(port: int, spool: str = "spool", more: str = "") -> str:
    """A configuration that needs nothing: SMTP on *port*, everything thrown away."""
    return (
        f"hostname: localhost\nspool: {{path: {spool}}}\n"
        f'esmtp_listener: {{listen: {{"127.0.0.1:{port}": {{mcmt_reception: allow}}}}}}\n'
        'domain: {sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}}\n' + more
    )
