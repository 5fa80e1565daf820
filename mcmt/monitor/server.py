"""``/metrics``, ``/healthz`` and ``/readyz`` on ``monitor.listen``, for the whole engine; and alerts (alerts.py).

``/healthz``: this process lives, its loop answers, the engine answers, the logs and the spool can be written: 503 says
that a restart or the disk is due. ``/readyz``: it listens, all workers work, the spool takes messages: 503 says that
clients should go elsewhere. A body names what is wrong, a line each. While the engine stops ``/readyz`` is 503 to the
end, and ``/healthz`` 200: who would restart it need not.

Rules: what the engine is asked costs in proportion to its domains; it is asked at most once in FRESH seconds, however
many ask here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec

from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.answers import Answers
from mcmt.control.front import Front
from mcmt.control.protocol import DomainStatus, EngineStatus, Status
from mcmt.errors import ControlError, SpoolError
from mcmt.monitor.alerts import Alerts, View, away_of
from mcmt.monitor.exposition import CONTENT_TYPE
from mcmt.monitor.http import HttpServer, Reply
from mcmt.monitor.metrics import Vitals, doors_of, render

FRESH = 1.0
"""Seconds for which one look at the engine serves."""
PATIENCE = 5.0
"""Seconds that the engine may take for a look."""


_STOPPING = "stopping"


class Watched(Front, Protocol):
    """What is watched."""

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""


class EventLog(Protocol):
    """What is asked of the event log."""

    @property
    def failing(self) -> Sequence[str]:
        """Log files that the system refuses to write."""


class _Look(msgspec.Struct, frozen=True):
    """What the engine said of itself."""

    engine: EngineStatus | None
    domains: tuple[DomainStatus, ...]
    fault: str
    """Why it said nothing; empty when it did."""


class MonitorServer:
    """Looks for what to alert of, and listens if the settings say where, from ``start`` to ``close``."""

    def __init__(self, settings: Settings, front: Watched, eventlog: EventLog, clock: Clock) -> None:
        self._settings = settings
        self._front = front
        self._eventlog = eventlog
        self._clock = clock
        self._answers = Answers(settings, front, clock)
        self._doors = doors_of(settings)
        self._started = clock.time()
        self._looking: asyncio.Task[_Look] | None = None
        self._looked = float("-inf")
        self._stopping = False
        paths = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._ready}
        listen = settings.monitor.listen
        self._alerts = Alerts(settings, self._view, self._note, clock)
        self._http = None if listen is None else HttpServer(*listen, paths)

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every socket."""
        return self._http.addresses if self._http is not None else ()

    def reload(self, settings: Settings) -> None:
        """Other settings hold; what it listens on and its limits stay."""
        self._doors = doors_of(settings)
        self._alerts.reload(settings)

    async def start(self) -> None:
        """Begin to listen. Raises ListenError naming the address."""
        if self._http is not None:
            await self._http.start()
        await self._alerts.start()

    async def drain(self) -> None:
        """The engine stops: say so from now on, and ask it nothing more."""
        self._stopping = True
        await self._alerts.close()
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    async def close(self) -> None:
        """Listen and look no more."""
        await self._alerts.close()
        if self._http is not None:
            await self._http.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _metrics(self) -> Reply:
        look = await self._look()
        front = self._front
        vitals = Vitals(
            started=self._started,
            workers=self._settings.workers,
            workers_up=self._settings.workers - len(front.missing),
            restarts=front.restarts,
            sessions=front.sessions,
            free=self._free(),
            min_free=self._settings.spool.min_free,
            logs_failing=len(self._eventlog.failing),
            doors=self._doors,
        )
        return Reply(HTTPStatus.OK, render(vitals, front.tally, look.engine, look.domains), CONTENT_TYPE)

    async def _health(self) -> Reply:
        if self._stopping:
            return _verdict([], _STOPPING)
        look = await self._look()
        wrong = [f"the log {path} cannot be written" for path in self._eventlog.failing]
        if look.fault:
            wrong.append(f"the engine does not answer: {look.fault}")
        elif look.engine is not None and look.engine.stuck:
            wrong.append("the spool refuses what became of deliveries: nothing is sent")
        return _verdict([*wrong, *self._unwritable()], "healthy")

    async def _ready(self) -> Reply:
        if self._stopping:
            return _verdict([_STOPPING], "")
        settings = self._settings
        takes = self._front.listening or settings.beanstalkd or settings.xmpp
        wrong = [] if takes else ["no address is listened on"]
        wrong += self._front.missing
        free, least = self._free(), self._settings.spool.min_free
        if free is not None and least and free < least:
            wrong.append(f"the spool takes no messages: {free} bytes are free, min_free is {least}")
        return _verdict([*wrong, *self._unwritable()], "ready")

    async def _view(self) -> View | None:
        look = await self._look()
        return None if look.engine is None else View(look.domains, away_of(look.engine))

    async def _note(self, domain: str, text: str) -> None:
        stations = self._front.stations
        if not stations:
            raise ControlError("no worker is there that could write it")
        await stations[0].note(domain, text)

    async def _look(self) -> _Look:
        if self._stopping:
            return _Look(None, (), _STOPPING)
        # One for all who ask: a task, so that nobody who hangs up takes it away from the others.
        now = self._clock.monotonic()
        if self._looking is None or (self._looking.done() and now - self._looked >= FRESH):
            self._looked = now
            self._looking = asyncio.get_running_loop().create_task(self._ask(), name="monitor")
        return await asyncio.shield(self._looking)

    async def _ask(self) -> _Look:
        try:
            async with asyncio.timeout(PATIENCE):
                engine, *domains = [item async for item in self._answers.items(Status())]
        except TimeoutError:
            return _Look(None, (), f"not within {PATIENCE:g} s")
        except (SpoolError, ControlError) as error:
            return _Look(None, (), str(error))
        told = tuple(domain for domain in domains if isinstance(domain, DomainStatus))
        return _Look(engine if isinstance(engine, EngineStatus) else None, told, "")

    def _free(self) -> int | None:
        """Bytes that the spool may use; None: nobody can tell."""
        try:
            found = os.statvfs(self._settings.spool.path)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def _unwritable(self) -> list[str]:
        path = self._settings.spool.path
        try:
            readonly = os.statvfs(path).f_flag & os.ST_RDONLY
        except OSError as error:
            return [f"the spool {path} cannot be looked at: {error.strerror or error}"]
        return [f"the spool {path} is on a file system that is read-only"] if readonly else []


def _verdict(wrong: Sequence[str], good: str) -> Reply:
    status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
    return Reply(status, ("\n".join(wrong or [good]) + "\n").encode("utf-8", "backslashreplace"))
