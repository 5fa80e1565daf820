"""Applications that submit, and remember what got a 250: the record that everything else is held against."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable

from tests.support.engine_process import mcmt_message

DOMAIN = "apn.example.com"
_ANSWER = re.compile(rb"250 2\.0\.0 ([0-9a-f]{24}) queued\r\n")
_ENVELOPE = (b"MAIL FROM:<app@example.com>\r\n", f"RCPT TO:<user@{DOMAIN}>\r\n".encode(), b"DATA\r\n")


class Sender(threading.Thread):
    """One session after the other, until it is told to stop. Each message has a token of its own."""

    def __init__(
        self, port: int, tokens: itertools.count[int], noted: Callable[[str], None] = lambda _: None, pause: float = 0.0
    ) -> None:
        """*noted* is told each batch id at the moment of its 250; *pause*: seconds between two messages."""
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.refused: list[bytes] = []
        """Answers that were no 250."""
        self._port = port
        self._tokens = tokens
        self._noted = noted
        self._pause = pause
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            # The engine is killed in the middle of this.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                self._converse(connection)
            self._stopping.wait(0.02)

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = connection.makefile("rb")
        answers.readline()
        connection.sendall(b"HELO application\r\n")
        answers.readline()
        while not self._stopping.is_set():
            message = mcmt_message(b'{"aps":{"alert":"You have mail"}}', token=f"{next(self._tokens):064x}")
            for line in (*_ENVELOPE, message + b".\r\n"):
                connection.sendall(line)
                answer = answers.readline()
                if not answer:
                    return
                if answer[:1] not in b"23":
                    self.refused.append(answer)
                    return
            match = _ANSWER.fullmatch(answer)
            assert match, answer
            self.accepted.append(match[1].decode())
            self._noted(self.accepted[-1])
            if self._pause:
                time.sleep(self._pause)
