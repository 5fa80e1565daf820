"""Debian's beanstalkd on a port of its own."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import greenstalk

from tests.support.engine_process import end_with_the_tests


class Beanstalkd:
    """One server, which may be killed and started again on its port, with the jobs that it has written down."""

    def __init__(self, folder: Path | None = None, *options: str) -> None:
        """*folder*: where it writes jobs down; None: nowhere."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = ["beanstalkd", "-l", "127.0.0.1", "-p", str(self.port), *options]
        if folder is not None:
            folder.mkdir()
            self._command += ["-b", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        self._process = subprocess.Popen(self._command, preexec_fn=end_with_the_tests)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5):
                    return
            except OSError:
                assert self._process.poll() is None, "beanstalkd does not run: tests/peers.sh"
                assert time.monotonic() < deadline
                time.sleep(0.02)  # a program that begins to listen has no event

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    @contextlib.contextmanager
    def client(self, tube: str) -> Iterator[greenstalk.Client[str]]:
        """A producer, who also looks."""
        with greenstalk.Client(("127.0.0.1", self.port), use=tube, watch=tube) as client:
            yield client

    def stats(self, tube: str) -> dict[str, Any]:
        """Of a tube: ``current-jobs-ready`` and the like."""
        with self.client(tube) as client:
            return dict(client.stats_tube(tube))

    def deleted(self) -> int:
        """Jobs that were deleted since it was started."""
        with self.client("default") as client:
            return int(client.stats()["cmd-delete"])

    def left(self, tube: str) -> int:
        """Jobs that are ready, delayed or reserved."""
        try:
            found = self.stats(tube)
        except greenstalk.NotFoundError:
            return 0
        return sum(int(found[f"current-jobs-{state}"]) for state in ("ready", "delayed", "reserved"))


@contextlib.contextmanager
def beanstalkd(folder: Path | None = None, *options: str) -> Iterator[Beanstalkd]:
    """A server that runs, ended afterwards."""
    server = Beanstalkd(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
