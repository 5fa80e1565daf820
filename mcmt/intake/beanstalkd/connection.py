"""One connection to a beanstalkd, for one tube: what is asked, what is answered, which jobs are ours.

The server answers in order, and answers nothing while it waits for a job. So it is asked to wait only when no job is
ours; while some are, for what is there at once: many commands in one write, twice as many each time that all of them
brought a job. Measured with beanstalkd 1.12 on the same two cores: docs/migrate.md.

Rules: a job is ours from RESERVED until the command that gives it away is written, and while the spool has it, it is
touched; a connection that is lost gives all its jobs back, which is the server's doing; whatever is not an answer to
what was asked ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from mcmt.clock import Clock, Timer
from mcmt.intake import limits
from mcmt.intake.beanstalkd.asked import TELLING, WORDS, Asked
from mcmt.intake.beanstalkd.jobs import DEFAULT
from mcmt.intake.beanstalkd.keeping import PROTOCOL, Job, Keeping, Origin, Verdict
from mcmt.intake.beanstalkd.shown import show_answer, show_commands
from mcmt.intake.connection_watch import ConnectionWatch
from mcmt.intake.memory import IntakeMemory
from mcmt.wire import beanstalk
from mcmt.wire.beanstalk import Answer, AnswerParser, Reserved, Stats
from mcmt.wire.trace import Trace

log = logging.getLogger(__name__)

_FEW: Final = 16
"""Commands for a job in the first write."""
_MANY: Final = 250
"""In one write, at most."""


class Shared(NamedTuple):
    """What connections need that is not the tube's."""

    clock: Clock
    memory: IntakeMemory
    max_message_size: int


class TubeConnection(asyncio.Protocol):
    """One connection, from its beginning to its end; ``ended`` has the reason."""

    def __init__(self, keeping: Keeping, shared: Shared, loop: asyncio.AbstractEventLoop, name: str) -> None:
        """*name*: what the logs call it."""
        self._keeping = keeping
        self._clock = shared.clock
        self._memory = shared.memory
        self._loop = loop
        self._name = name
        self._parser = AnswerParser(shared.max_message_size)
        self._asked: deque[tuple[Asked, int]] = deque()
        self._out: list[bytes] = []
        self._ours: dict[int, float] = {}
        """Jobs that are ours, and when their time to run began."""
        self._new: list[Job] = []
        """Those that no task has yet."""
        self._doubtful: dict[int, Job] = {}
        """Those that may be repeats."""
        self._deleted: list[int] = []
        self._unread = b""
        """What came and is not parsed: the intake's memory has no room for it."""
        self._octets = 0
        """That count as held in the intake's memory, for jobs that no task has yet."""
        self._reserving = 0
        """Commands for a job that are not answered."""
        self._waits = False
        """The server was asked to wait for one."""
        self._burst = _FEW
        self._more = False
        """There may be jobs that need no waiting for."""
        self._came = 0
        """Jobs that the present burst has brought."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Callable[[], None], Timer] = {}
        self._heard = shared.clock.monotonic()
        self._gone = False
        self._draining = False
        self._watched: ConnectionWatch | None = None
        """Once somebody watches."""
        self.watching = False
        """The server has said that it will give jobs of this tube."""
        self.ended: asyncio.Future[str] = loop.create_future()

    @property
    def reserved(self) -> int:
        """Jobs that are ours."""
        return len(self._ours)

    async def settled(self) -> None:
        """Return when nothing of this connection is on its way to the disk."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def drain(self) -> None:
        """Reserve nothing more, give away what is ours, and end."""
        self._draining = True
        if not self._gone:
            self._go_on()

    def abort(self, reason: str) -> None:
        """End now; the server takes back what is ours."""
        if not self._gone:
            self._lost(reason)
            self._wire.abort()

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say which tube."""
        self._wire = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._origin = Origin(peer[0].partition("%")[0] if peer else "", self._name)
        self._heard = self._clock.monotonic()
        tube = self._keeping.tube
        self._ask(Asked.WATCH, 0, beanstalk.watch(tube))
        if tube != DEFAULT:
            self._ask(Asked.WATCH, 0, beanstalk.ignore(DEFAULT))
        self._later(limits.SOURCE_ANSWER / 2, self._look_at_the_clock)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Answers."""
        self._heard = self._clock.monotonic()
        if self._gone:
            return
        waits = bool(self._unread)
        self._unread += data
        if not waits:
            self._read_on()

    def connection_lost(self, error: Exception | None) -> None:
        """The server has taken back what was ours."""
        self._lost(str(error) if error else "the server closed the connection")

    def _trace(self) -> Trace | None:
        """Where those who watch the tube's domain are told; None: nobody does."""
        keeping = self._keeping
        if not keeping.tracing.watched:
            return None
        if self._watched is None:
            about = keeping.tracing, keeping.domain, self._origin.peer, PROTOCOL
            self._watched = ConnectionWatch(*about, f"{self._name}, tube {keeping.tube}")
        return self._watched.trace

    def _lost(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        if self._watched is not None:
            self._watched.lost()
        for timer in self._timers.values():
            timer.cancel()
        self._memory.give_back(self._octets)
        self._octets = 0
        self._unread = b""
        self._ours.clear()
        self._free_keys()
        self.ended.set_result(reason)

    # -- what is answered ----------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if self._gone or not self._unread:
            return
        if not self._memory.take(len(self._unread)):
            self._wire.pause_reading()
            self._memory.wait(self._read_on)
            return
        self._wire.resume_reading()
        data, self._unread = self._unread, b""
        self._octets += len(data)
        trace = self._trace()
        for answer in self._parser.receive(data):
            if trace is not None:
                show_answer(trace, answer)
            if not self._answered(answer):
                return
        if self._parser.fault:
            self.abort(f"the server breaks the protocol: {self._parser.fault}")
            return
        self._free_keys()
        self._begin_keeping()
        self._go_on()

    def _answered(self, answer: Answer) -> bool:
        """False: the connection has ended."""
        if not self._asked:
            self.abort("the server answers what was not asked")
            return False
        asked, job = self._asked.popleft()
        if isinstance(answer, Reserved) and asked is Asked.RESERVE:
            self._reserved(answer)
        elif isinstance(answer, Stats) and asked in TELLING:
            self._told(asked, job, answer)
        elif isinstance(answer, str) and answer in WORDS[asked]:
            self._said(asked, job, answer)
        else:
            what = answer if isinstance(answer, str) else type(answer).__name__
            self.abort(f"the server answered {what} to {asked.name}")
            return False
        return True

    def _reserved(self, answer: Reserved) -> None:
        self._reserving -= 1
        self._waits = False
        self._more = True
        self._came += 1
        number = answer.job
        again = number in self._ours
        self._ours[number] = self._clock.monotonic()
        if again:
            return  # its time to run was over while it was on its way to the disk; it is still
        if answer.body is None:
            self._give_away(number, self._keeping.too_large(number, answer.size, self._origin))
            return
        job = Job(number, answer.body)
        if number in self._keeping.known:
            self._doubtful[number] = job
            self._ask(Asked.AGE, number, beanstalk.stats_job(number))
        else:
            self._new.append(job)

    def _told(self, asked: Asked, number: int, stats: Stats) -> None:
        if asked is Asked.AGE:
            job = self._doubtful.pop(number)
            if self._keeping.is_repeat(job, _number(stats, "age", 0)):
                self._give_away(number, Verdict.KEPT)
            else:
                self._new.append(job)
            return
        priority = _number(stats, "pri", beanstalk.MAX_PRIORITY // 2)
        if asked is Asked.TO_BURY:
            self._ask(Asked.BURY, number, beanstalk.bury(number, priority))
        else:
            delay = math.ceil(self._keeping.pause or limits.SOURCE_MAX_PAUSE)
            self._ask(Asked.RELEASE, number, beanstalk.release(number, priority, delay))
        self._ours.pop(number, None)

    def _said(self, asked: Asked, number: int, word: str) -> None:
        if asked is Asked.RESERVE:
            self._reserving -= 1
            self._waits = self._more = False
            if word == "DEADLINE_SOON":
                self._touch(0.0)
        elif asked is Asked.DELETE:
            if word == "DELETED":
                self._deleted.append(number)
        elif asked is Asked.WATCH:
            self.watching = True
        elif asked in TELLING:
            self._doubtful.pop(number, None)
            self._ours.pop(number, None)

    def _free_keys(self) -> None:
        if self._deleted:
            self._keeping.deleted(self._deleted)
            self._deleted = []

    # -- what is kept --------------------------------------------------------------------------------------------

    def _begin_keeping(self) -> None:
        if self._new:
            jobs, self._new = self._new, []
            octets, self._octets = self._octets, 0
            task = self._loop.create_task(self._keep(jobs, octets), name="beanstalkd jobs")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not self._parser.held and not self._doubtful:
            self._memory.give_back(self._octets)
            self._octets = 0

    async def _keep(self, jobs: Sequence[Job], octets: int) -> None:
        try:
            verdicts = await self._keeping.keep(jobs, self._origin)
        except Exception:
            log.exception("%s: a fault of ours", self._name)
            self.abort("a fault of ours")
            return
        finally:
            self._memory.give_back(octets)
        if self._gone:
            return
        for job, verdict in zip(jobs, verdicts, strict=True):
            self._give_away(job.number, verdict)
        if self._keeping.pause:
            self._later(self._keeping.pause, self._pause_is_over)
        self._more = not self._keeping.pause
        self._go_on()

    def _give_away(self, number: int, verdict: Verdict) -> None:
        if verdict is Verdict.KEPT:
            self._ours.pop(number, None)
            self._ask(Asked.DELETE, number, beanstalk.delete(number))
        else:
            asked = Asked.TO_BURY if verdict is Verdict.REFUSED else Asked.TO_RELEASE
            self._ask(asked, number, beanstalk.stats_job(number))

    # -- what is asked -------------------------------------------------------------------------------------------

    def _ask(self, asked: Asked, job: int, command: bytes) -> None:
        self._asked.append((asked, job))
        self._out.append(command)

    def _go_on(self) -> None:
        """Ask for the next jobs, if any are wanted; say what is to be said."""
        if self._draining:
            # What is waited for without anything of ours before it need not be waited for.
            waits_only = self._waits and len(self._asked) == 1
            if waits_only or not (self._ours or self._asked or self._tasks):
                self.abort("the engine stops")
                return
        elif not self._reserving and self._pause_is_over not in self._timers:
            self._ask_for_jobs()
        if self._ours:
            self._later(limits.SOURCE_TOUCH, self._touch_again)
        if self._out:
            if (trace := self._trace()) is not None:
                show_commands(trace, self._out)
            self._wire.write(b"".join(self._out))
            self._out.clear()

    def _ask_for_jobs(self) -> None:
        room = limits.SOURCE_JOBS - len(self._ours)
        if not self._ours:
            count, wait = 1, limits.SOURCE_IDLE
            self._waits = True
        elif self._more and room > 0 and not self._keeping.pause:
            if self._came >= self._burst:
                self._burst = min(2 * self._burst, _MANY)
            elif self._came < self._burst // 2:
                self._burst = max(_FEW, self._burst // 2)
            count, wait = min(self._burst, room), 0
        else:
            return
        self._came = 0
        self._reserving = count
        for _ in range(count):
            self._ask(Asked.RESERVE, 0, beanstalk.reserve(wait))

    # -- time ----------------------------------------------------------------------------------------------------

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if call not in self._timers and not self._gone:
            self._timers[call] = self._clock.call_later(seconds, lambda: self._due(call))

    def _due(self, call: Callable[[], None]) -> None:
        self._timers.pop(call, None)
        if not self._gone:
            call()

    def _pause_is_over(self) -> None:
        self._go_on()

    def _touch_again(self) -> None:
        self._touch(limits.SOURCE_TOUCH / 2)
        self._go_on()

    def _touch(self, age: float) -> None:
        now = self._clock.monotonic()
        for number, since in self._ours.items():
            if now - since >= age:
                self._ours[number] = now
                self._ask(Asked.TOUCH, number, beanstalk.touch(number))

    def _look_at_the_clock(self) -> None:
        patience = limits.SOURCE_ANSWER + (limits.SOURCE_IDLE if self._waits else 0)
        if self._asked and not self._unread and self._clock.monotonic() - self._heard > patience:
            self.abort(f"nothing was answered for {patience:g} seconds")
            return
        self._later(limits.SOURCE_ANSWER / 2, self._look_at_the_clock)


def _number(stats: Stats, name: str, otherwise: int) -> int:
    text = stats.values.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else otherwise
