"""A client that behaves, from an address of its own, and how long it waits for its 250 while others attack."""

from __future__ import annotations

import resource
import smtplib
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

ADDRESS = "127.0.0.2"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
CALM = 60
"""Messages that say how long it waits without an attack."""
PATIENCE = 12.0
"""How often its calm median its median under attack may be ..."""
FLOOR = 0.05
"""... and the seconds that it may be in any case: less than this is the noise of a busy machine."""


def submit(client: smtplib.SMTP) -> float:
    """Hand in one message; the seconds that it took."""
    began = time.monotonic()
    client.mail("neighbour@example.com")
    client.rcpt("n@sink.example.com")
    code, text = client.data(MESSAGE)
    assert code == 250, text
    return time.monotonic() - began


def connect(port: int) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", port, timeout=30, source_address=(ADDRESS, 0))
    client.ehlo("neighbour")
    return client


class Neighbour:
    """Submits for as long as the block lasts, one message after another, each tenth one over a new connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._failure: BaseException | None = None
        with connect(port) as client:
            self.calm = statistics.median(submit(client) for _ in range(CALM))
        self.waits: list[float] = []

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)
        if error is None:
            if self._failure is not None:
                raise self._failure
            self.check()

    def _submit(self) -> None:
        try:
            while not self._over.is_set() or len(self.waits) < 10:
                began = time.monotonic()
                with connect(self._port) as client:
                    self.waits.append(submit(client) + time.monotonic() - began)
                    for _ in range(9):
                        self.waits.append(submit(client))
        except BaseException as failure:
            self._failure = failure

    def check(self) -> None:
        """It was served, and waited for no more than PATIENCE allows."""
        median = statistics.median(self.waits)
        assert median <= max(self.calm * PATIENCE, FLOOR), (median, self.calm, len(self.waits))


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))  # root may; anybody else is told
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
