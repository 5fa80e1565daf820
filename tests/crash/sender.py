"""Applications that submit, and remember what got a 250: the record that everything else is held against."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from tests.support.engine_process import mcmt_message
from tests.support.http_api import KEY

DOMAIN = "apn.example.com"
REPLACING = "scores.example.com"
"""Of the varied messages: ``replace_queued`` holds there."""
SHARED = 0xC0 << 240
"""Tokens from here on have several messages, which replace each other; any other token has one."""
_KEYED = 0xD0 << 240
"""Those of messages with an Idempotency-Key."""
_ANSWER = re.compile(rb"250 2\.0\.0 ([0-9a-f]{24}) queued\r\n")
_PAYLOAD = b'{"aps":{"alert":"You have mail"}}'


class Wish(NamedTuple):
    """What one message is and asks for."""

    token: int
    domain: str = DOMAIN
    of_mail: str = ""
    of_recipient: str = ""
    headers: str = ""


def plain(number: int) -> Wish:
    """Nothing but a push to a token of its own."""
    return Wish(number)


def varied(number: int) -> Wish:
    """Of every kind: priorities, reports of success and of delays, and pushes that replace earlier ones."""
    mail = ("", " MT-PRIORITY=4", " MT-PRIORITY=-4")[number % 3]
    notify = {0: " NOTIFY=SUCCESS", 1: " NOTIFY=DELAY"}.get(number % 7, "")
    if number % 4 == 0:
        return Wish(SHARED + number // 4 % 5, REPLACING, mail, notify, "apns-collapse-id: score\r\n")
    return Wish(number, DOMAIN, mail, notify)


class Sender(threading.Thread):
    """One session after the other, until it is told to stop."""

    def __init__(
        self,
        port: int,
        numbers: itertools.count[int],
        noted: Callable[[str], None] = lambda _: None,
        pause: float = 0.0,
        kind: Callable[[int], Wish] = plain,
    ) -> None:
        """*noted* is told each batch id at the moment of its 250; *pause*: seconds between two messages."""
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self.wanting: list[str] = []
        """Of those: the ones whose sender wants to hear of success."""
        self.refused: list[bytes] = []
        """Answers that were no 250."""
        self._port = port
        self._numbers = numbers
        self._noted = noted
        self._pause = pause
        self._kind = kind
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
        connection.sendall(b"EHLO application\r\n")
        _read_reply(answers)
        while not self._stopping.is_set():
            wish = self._kind(next(self._numbers))
            message = mcmt_message(_PAYLOAD, token=f"{wish.token:064x}", headers=wish.headers)
            lines = (
                f"MAIL FROM:<app@example.com>{wish.of_mail}\r\n".encode(),
                f"RCPT TO:<user@{wish.domain}>{wish.of_recipient}\r\n".encode(),
                b"DATA\r\n",
                message + b".\r\n",
            )
            for line in lines:
                connection.sendall(line)
                answer = _read_reply(answers)
                if not answer:
                    return
                if answer[:1] not in b"23":
                    self.refused.append(answer)
                    return
            match = _ANSWER.fullmatch(answer)
            assert match, answer
            self.accepted.append(match[1].decode())
            if "SUCCESS" in wish.of_recipient:
                self.wanting.append(self.accepted[-1])
            self._noted(self.accepted[-1])
            if self._pause:
                time.sleep(self._pause)


def _read_reply(answers: BinaryIO) -> bytes:
    """The last line of a reply; empty when there is none any more."""
    while (line := answers.readline())[3:4] == b"-":
        pass
    return line


class KeyedSender(threading.Thread):
    """An application that sends each push with an Idempotency-Key, again and again until it is told that it was
    taken: each has a token of its own, so one that was taken twice is seen."""

    def __init__(self, port: int, noted: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(daemon=True)
        self.accepted: list[str] = []
        self._port = port
        self._noted = noted
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        for number in itertools.count(1):
            while (batch_id := self._send(number)) is None:
                if self._stopping.wait(0.05):
                    return
            self.accepted.append(batch_id)
            self._noted(batch_id)
            if self._stopping.wait(0.01):
                return

    def _send(self, number: int) -> str | None:
        """The batch id, where there was an answer and it was not to come again."""
        part = {
            "media_type": "message/vnd.msys.apn",
            "tokens": [f"{_KEYED + number:064x}"],
            "json": {"aps": {"alert": "You have mail"}},
        }
        body = json.dumps({"from": "app@example.com", "to": [f"user@{DOMAIN}"], "parts": [part]})
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"order-{number}",
        }
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
                connection.request("POST", "/v1/messages", body, headers)
                response = connection.getresponse()
                told = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        if response.status >= 500:
            return None
        assert response.status < 300, told
        batch_id: str = told["id"]
        return batch_id
