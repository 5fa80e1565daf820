"""From a submission to the spool: composed as every message is, kept once a key, and the answer that says so."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from mcmt.config.settings import HttpTokenSettings
from mcmt.errors import MessageError, SpoolError
from mcmt.intake.http.problem import Problem, of_message, of_spool
from mcmt.intake.http.submission import Submission
from mcmt.intake.reception import Reception
from mcmt.message.event import Kind
from mcmt.message.model import Envelope
from mcmt.spool.standing import Once, Tracker

PROTOCOL: Final = "http"
"""This door's word in the main log."""
PHASE: Final = "HTTP"
"""Where in the conversation a message was refused, in the reject log."""
_is_key = re.compile(r"[!-~ ]{1,255}").fullmatch


class Accepted(NamedTuple):
    """What is kept."""

    batch_id: str
    deliveries: int
    replayed: bool
    """It was kept under its key before."""


class Client(NamedTuple):
    """Who speaks."""

    token: HttpTokenSettings
    peer: str
    connection_id: str
    traceparent: str = ""
    """The trace that the request belongs to, as it says."""

    def envelope(self, submission: Submission | None = None) -> Envelope:
        """Of a message of this client's; or of one that cannot be read."""
        about = self.peer, self.connection_id, PROTOCOL, self.token.name
        if submission is None:
            return Envelope("", (), *about)
        said = submission.sender, submission.recipients, *about, submission.priority
        return Envelope(*said, traceparent=self.traceparent)


class Acceptance:
    """The way of every message of this door."""

    def __init__(self, reception: Reception, tracker: Tracker) -> None:
        self.reception = reception
        self.tracker = tracker

    async def accept(self, client: Client, submission: Submission, once: Once | None, size: int) -> Accepted:
        """Keep it; returns when it is on disk. *size*: octets that came. Raises Problem: it is not known to be kept."""
        envelope = client.envelope(submission)
        try:
            if submission.raw is not None:
                composed = await self.reception.composed(envelope, submission.raw, "allow", submission.schedule)
            else:
                composed = await self.reception.composed_parts(
                    envelope, submission.parts, size, submission.headers, submission.schedule
                )
            if once is None:
                await self.reception.keep(composed)
                failed = sum([event.kind is Kind.PERMANENT for event in composed.events])
                return Accepted(composed.message.batch_id, len(composed.deliveries) + failed, False)
            known = await self.tracker.accept_once(once, *composed)
        except MessageError as error:
            raise of_message(error) from None
        except SpoolError as error:
            self.reception.tell_not_kept(client.connection_id, client.peer, error)
            raise of_spool(error) from error
        if known.fingerprint != once.fingerprint:
            raise Problem(
                422,
                "another message was sent with this key: give each a key of its own",
                "Idempotency-Key",
                enhanced="5.5.4",
            )
        return Accepted(known.batch_id, known.deliveries, known.batch_id != composed.message.batch_id)

    def refuse(self, client: Client, submission: Submission | None, problem: Problem) -> None:
        """Write a refusal into the ledger."""
        self.reception.reject(client.envelope(submission), PHASE, problem.refusal)


def once_of(key: str | None, token: HttpTokenSettings, *sent: bytes, line: int = 0) -> Once | None:
    """What the header field Idempotency-Key asks for. *sent*: all that makes the request. *line*: which one of a bulk
    request, counted from 1. Raises Problem."""
    if key is None:
        return None
    # As the draft has it, a string in quotes (RFC 9651 3.3.3), or the bare text that most clients send.
    text = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not _is_key(text):
        raise Problem(400, "expected 1 to 255 printable ASCII characters", "Idempotency-Key", enhanced="5.5.4")
    # Keys are a token's own, and a line's of a bulk request too: no two fall together, since none holds a NUL. Of what
    # was sent only a digest is kept.
    of_line = f"\0{line}" if line else ""
    name = hashlib.sha256(f"{token.name}\0{text}{of_line}".encode()).hexdigest()
    return Once(name, hashlib.sha256(b"\0".join(sent)).digest())
