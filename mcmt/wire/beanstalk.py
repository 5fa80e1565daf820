"""beanstalkd's protocol as a worker speaks it, without I/O: commands written, answers read.

Source: beanstalkd's protocol.txt, and beanstalkd 1.12. Commands are answered in their order. A job's body is judged by
its announced length before an octet of it is kept: one that is too large is read past and returned without it. What
cannot be an answer is a fault, and nothing behind it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

LINE: Final = 224
"""Octets of an answer's line with its CR LF, as of a command's."""
STATS: Final = 64 * 1024
"""Octets of statistics; more is a fault."""
MAX_PRIORITY: Final = 2**32 - 1
NAME: Final = 200
"""Octets of a tube's name."""

_is_name = re.compile(rf"[A-Za-z0-9+/;.$_()][A-Za-z0-9+/;.$_()-]{{0,{NAME - 1}}}").fullmatch
_RESERVED = re.compile(rb"RESERVED ([0-9]{1,20}) ([0-9]{1,10})")
_STATS = re.compile(rb"OK ([0-9]{1,10})")
_WORD = re.compile(rb"([A-Z][A-Z_]*)(?: [0-9]{1,20})?")
_PAIR = re.compile(rb"^([a-z-]+): \"?([^\r\n\"]*)\"?$", re.MULTILINE)

FAILURES: Final = frozenset(
    {
        "OUT_OF_MEMORY",
        "INTERNAL_ERROR",
        "DRAINING",
        "BAD_FORMAT",
        "UNKNOWN_COMMAND",
        "EXPECTED_CRLF",
        "JOB_TOO_BIG",
        "NOT_IGNORED",
    }
)
"""Words with which a server says that it did not do what it was asked; they may follow any command."""


class Reserved(msgspec.Struct, frozen=True, gc=False):
    """A job, reserved for this connection."""

    job: int
    size: int
    body: bytes | None
    """None: it is larger than is taken."""


class Stats(msgspec.Struct, frozen=True):
    """Statistics: a flat map of YAML, as far as it is one."""

    values: Mapping[str, str]


Answer = Reserved | Stats | str
"""A str is any other answer's word; a number behind it is not told."""


class AnswerParser:
    """Reads one connection's answers."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = b""
        self._reserved: tuple[int, int] | None = None
        """Job and size of a body that has not come whole; of statistics the job is -1."""
        self._left = 0
        """Octets of a body that is read past."""
        self.fault = ""
        """Why nothing is read any more."""

    @property
    def held(self) -> int:
        """Octets that have come and belong to no answer that was returned."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Answer]:
        """The answers that *data* completes."""
        answers: list[Answer] = []
        if self.fault:
            return answers
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while not self.fault:
            if self._reserved is None:
                end = buffer.find(b"\r\n", at, at + LINE)
                if end < 0:
                    if len(buffer) - at >= LINE:
                        self.fault = "an answer has no end"
                    break
                self._line(buffer[at:end], answers)
                at = end + 2
                continue
            job, size = self._reserved
            if self._left:
                past = min(self._left, len(buffer) - at)
                self._left -= past
                at += past
                if self._left:
                    break
            start = at if job >= 0 and size > self._max_body else at + size
            if len(buffer) < start + 2:
                break
            if buffer[start : start + 2] != b"\r\n":
                self.fault = "a body has another length than was told"
                break
            self._reserved = None
            body = buffer[at:start]
            at = start + 2
            if job < 0:
                pairs = {name.decode(): value.decode("utf-8", "replace") for name, value in _PAIR.findall(body)}
                answers.append(Stats(pairs))
            else:
                answers.append(Reserved(job, size, body if size <= self._max_body else None))
        self._buffer = b"" if self.fault else buffer[at:]
        return answers

    def _line(self, line: bytes, answers: list[Answer]) -> None:
        if match := _RESERVED.fullmatch(line):
            size = int(match[2])
            self._reserved = int(match[1]), size
            self._left = size if size > self._max_body else 0
        elif match := _STATS.fullmatch(line):
            if int(match[1]) > STATS:
                self.fault = f"statistics of {int(match[1])} bytes"
            self._reserved = -1, int(match[1])
        elif match := _WORD.fullmatch(line):
            answers.append(match[1].decode())
        else:
            self.fault = f"{line[:60]!a} is no answer"


def is_tube(name: str) -> bool:
    """Whether a tube may have that name."""
    return _is_name(name) is not None


def watch(tube: str) -> bytes:
    """Take jobs of *tube* too."""
    return f"watch {tube}\r\n".encode("ascii")


def ignore(tube: str) -> bytes:
    """Take none of *tube*."""
    return f"ignore {tube}\r\n".encode("ascii")


def reserve(timeout: int) -> bytes:
    """Have the next job, within *timeout* seconds. Nothing else is answered meanwhile."""
    return b"reserve-with-timeout %d\r\n" % timeout


def delete(job: int) -> bytes:
    """It is done."""
    return b"delete %d\r\n" % job


def touch(job: int) -> bytes:
    """It is being worked on: its time to run begins anew."""
    return b"touch %d\r\n" % job


def release(job: int, priority: int, delay: int) -> bytes:
    """It is for others, in *delay* seconds."""
    return b"release %d %d %d\r\n" % (job, priority, delay)


def bury(job: int, priority: int) -> bytes:
    """It is set aside until somebody kicks it."""
    return b"bury %d %d\r\n" % (job, priority)


def stats_job(job: int) -> bytes:
    """What is known of it."""
    return b"stats-job %d\r\n" % job
