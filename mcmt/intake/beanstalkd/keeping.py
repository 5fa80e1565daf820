"""From a job to the spool, once: what is kept is known by its key until the server has confirmed that it is deleted.

A job comes again when its server did not learn that it was kept: the engine was killed between the commit and the
delete, the job's time to run was over, or the connection was lost. Its key is the server's address, the tube and the
job's number, and stands in the transaction that keeps the message. A server that begins anew without its jobs begins
to count anew, so a number alone does not tell a repeat: the job's age, which the server is asked for, and its body do.

Rules: a job is deleted only when its message is on disk; whose fault it is that a job was not kept decides what becomes
of it (Verdict).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from mcmt.clock import Clock
from mcmt.config.settings import BeanstalkdSettings
from mcmt.errors import MessageError, SpoolError
from mcmt.intake import limits
from mcmt.intake.beanstalkd.jobs import read_job
from mcmt.intake.reception import Reception
from mcmt.intake.reminder import Reminder
from mcmt.message.model import Envelope
from mcmt.spool.standing import JobKeeper, Keyed, Once
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

PROTOCOL: Final = "beanstalkd"
"""This source's word in the main log."""
PHASE: Final = "job"
"""Where a job was refused, in the reject log."""
_CLOCKS: Final = 2.0
"""Seconds that a server's count of a job's age, which is whole seconds, and ours may differ."""


class Verdict(Enum):
    """What becomes of a job."""

    KEPT = "kept"
    """It is on disk: delete it."""
    LATER = "later"
    """It is not the job's fault that it was not kept: release it."""
    REFUSED = "refused"
    """It cannot be sent: bury it."""


class Job(NamedTuple):
    """One that is reserved."""

    number: int
    body: bytes

    def fingerprint(self) -> bytes:
        """Of the body."""
        return hashlib.blake2b(self.body, digest_size=16).digest()


class Origin(NamedTuple):
    """Where jobs come from."""

    peer: str
    """IP address of the server."""
    connection_id: str


# RFC 3463 X.1.2: no stanza routes the domain any more. The configuration is at fault, and may be put right.
_LATER: Mapping[str, Verdict] = MappingProxyType({"5.1.2": Verdict.LATER})


class Keeping:
    """Of one tube, over all its connections."""

    def __init__(
        self, settings: BeanstalkdSettings, tube: str, reception: Reception, keeper: JobKeeper, clock: Clock
    ) -> None:
        self.tube = tube
        self.domain = settings.tubes[tube]
        self._recipients = (f"{PROTOCOL}@{self.domain}",)
        self._return_path = settings.return_path
        self._max_size = settings.max_message_size
        self._prefix = f"{PROTOCOL} {settings.address} {tube} "
        self._where = f"beanstalkd {settings.address}, tube {tube}"
        self._reception = reception
        self._keeper = keeper
        self._clock = clock
        self._told = Reminder(clock)
        self.known: dict[int, tuple[bytes, float]] = {}
        """Jobs that are kept and not known to be deleted: fingerprint, and when they were kept (seconds since the
        epoch)."""
        self.taken = self.repeated = self.buried = 0
        self.pause = 0.0
        """Seconds that nothing is to be taken for; 0: the spool takes what comes."""
        self.reason = ""
        """Why."""

    @property
    def tracing(self) -> Tracing:
        """Who watches a domain."""
        return self._reception.tracing

    async def load(self) -> None:
        """Learn what is known of jobs, before the first of a connection comes. Raises SpoolError."""
        found = await self._keeper.keys(self._prefix)
        self.known = {
            int(once.key.removeprefix(self._prefix)): (once.fingerprint, since) for once, since in found.items()
        }

    async def keep(self, jobs: Sequence[Job], origin: Origin) -> Sequence[Verdict]:
        """Keep them; return what becomes of each when what is kept is on disk."""
        verdicts = [Verdict.LATER] * len(jobs)
        places: list[int] = []
        keyed: list[Keyed] = []
        for place, job in enumerate(jobs):
            envelope = self._envelope(job.number, origin)
            try:
                part = read_job(job.body, self.tube)
                composed = await self._reception.composed_parts(envelope, (part,), len(job.body))
            except MessageError as reason:
                verdicts[place] = self.refuse(job.number, origin, reason)
            else:
                places.append(place)
                keyed.append(Keyed(Once(f"{self._prefix}{job.number}", job.fingerprint()), *composed))
        if not keyed:
            return verdicts
        now = self._clock.time()
        failure: SpoolError | None = None
        errors = await self._keeper.accept_each(keyed)
        for place, one, error in zip(places, keyed, errors, strict=True):
            if error is None:
                verdicts[place] = Verdict.KEPT
                self.known[jobs[place].number] = one.once.fingerprint, now
                self.taken += 1
            else:
                failure = error
        self._judge_spool(failure, origin)
        return verdicts

    def too_large(self, number: int, size: int, origin: Origin) -> Verdict:
        """A job of *size* bytes, whose body was not kept."""
        text = f"the job has {size} bytes, and {self._max_size} are taken (max_message_size)"
        return self.refuse(number, origin, MessageError(552, "5.3.4", text))

    def refuse(self, number: int, origin: Origin, reason: MessageError) -> Verdict:
        """Tell why a job is not kept, and what becomes of it."""
        verdict = Verdict.LATER if reason.code < 500 else _LATER.get(reason.enhanced, Verdict.REFUSED)
        self._reception.reject(self._envelope(number, origin), PHASE, reason)
        done = "buried" if verdict is Verdict.REFUSED else "left for later"
        self.buried += verdict is Verdict.REFUSED
        if times := self._told.count():
            more = f" ({times} jobs since the last word)" if times > 1 else ""
            log.warning("%s: job %d is %s: %s%s", self._where, number, done, reason.text, more)
        return verdict

    def is_repeat(self, job: Job, age: float) -> bool:
        """Whether the job, which was put *age* seconds ago, is the one that was kept under its number."""
        fingerprint, since = self.known.get(job.number, (b"", 0.0))
        if fingerprint == job.fingerprint() and self._clock.time() - age <= since + _CLOCKS:
            self.repeated += 1
            return True
        self.deleted((job.number,))
        return False

    def deleted(self, numbers: Sequence[int]) -> None:
        """The server has confirmed that these are deleted, or they are other jobs: their keys are free."""
        for number in numbers:
            self.known.pop(number, None)
        self._keeper.forget([f"{self._prefix}{number}" for number in numbers])

    def _judge_spool(self, failure: SpoolError | None, origin: Origin) -> None:
        if failure is None:
            self.pause, self.reason = 0.0, ""
            return
        self.pause = min(max(limits.SOURCE_PAUSE, 2 * self.pause), limits.SOURCE_MAX_PAUSE)
        self.reason = str(failure)
        self._reception.tell_not_kept(origin.connection_id, origin.peer, failure)

    def _envelope(self, number: int, origin: Origin) -> Envelope:
        connection_id = f"{origin.connection_id}-{number}"
        return Envelope(self._return_path, self._recipients, origin.peer, connection_id, PROTOCOL, self.tube)
