"""One row, played: an engine with two routes, one through the fault and one to nginx, in a process of its own.

A process of its own, so that its memory is the row's, a defence that is taken out is missing there alone, and a loop
that never ends can be killed. Rows run side by side: most of them wait most of the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import ssl
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import uvloop

from mcmt.channel.plugins import load
from mcmt.message.event import Event, Kind
from mcmt.message.identity import uuid_of
from mcmt.message.route import parse_route
from mcmt.spool.port import Selection
from tests.faults.frames import Gateway, server_context
from tests.faults.proxy import Fault, Proxy
from tests.faults.refusal import Refusal
from tests.faults.row import Expectation, Row, Seen, Tally, expect, said
from tests.support.engine_bench import Bench
from tests.support.leaping_clock import LeapingClock
from tests.support.peers import free_port
from tests.support.tls import Certificates

FAULTY = "fault.example.com"
HEALTHY = "push.example.com"
MEDIA_TYPE = "message/vnd.msys.apn"
MESSAGE = 2_000
"""Deliveries of one message."""
NO_PROOF = "the healthy route"
NOT_OVER = "not over within"
NOT_ENDED = "its process did not end within"
BESIDE_OTHERS = 60.0
"""Seconds that a row may take beside other tests, on two processors, over those that it has."""
HEADERS = (("apns-push-type", "alert"), ("apns-priority", "10"))
CALM_PROBES = 30
PACE = 0.01
SLOWER, SLACK = 5.0, 0.25
"""The healthy route's p99 beside a fault: at most this many times what it was just before, and so many seconds more."""


class House(NamedTuple):
    """What all rows share: files and the healthy gateway."""

    certificates: Certificates
    nginx_port: int
    nginx_log: Path


@dataclass
class Result:
    """What a row came to; it is sent from the row's process."""

    failures: list[str] = field(default_factory=list)
    """Expectations that were not met."""
    broken: list[str] = field(default_factory=list)
    """What went wrong with the test itself."""
    figures: dict[str, float] = field(default_factory=dict)
    log: str = ""


class Stage:
    """An engine, its two routes, and what comes of them."""

    def __init__(self, row: Row, house: House, folder: Path, *, defended: bool) -> None:
        self.row = row
        self._within = row.within if defended else row.without
        self._calm_probes = CALM_PROBES if defended else CALM_PROBES // 5
        self.house = house
        self.folder = folder
        self.clock = LeapingClock()
        certificates = house.certificates
        self.common: dict[str, Any] = {
            "tls_certificate": str(certificates.client),
            "tls_key": str(certificates.client_key),
            "tls_ca": str(certificates.ca),
            "apn_topic": "com.example.app",
        }
        self.options: dict[str, Any] = {**self.common, "delivery_response_timeout": "500ms", **row.options}
        self.settings: dict[str, Any] = {"connect_timeout": 0.5, **row.settings}
        self.context: ssl.SSLContext = server_context(str(certificates.server), str(certificates.server_key))
        self.host = "localhost"
        self.channel = load("apn")
        self.connects = 0
        if not defended:
            row.defence.take_out(self.channel.__name__, self.settings, self.options)  # type: ignore[attr-defined]  # a module
        row.prepare(self)
        self.delivered: Counter[str] = Counter()
        self.tried: list[Event] = []
        self.failed = Tally()
        self.news: list[Event] = []
        self.queued: dict[str, float] = {}
        """Seconds that each probe took, by batch id."""
        self.complaints: list[str] = []
        self._sent: list[str] = []
        self._read = 0
        self._peak = 0
        self.ids: list[str] = []

    @property
    def gateway(self) -> Gateway:
        """Where the row has a script."""
        assert isinstance(self._peer, Gateway)
        return self._peer

    async def play(self) -> Result:
        result = Result()
        async with self._route() as port, self._bench(port) as self.bench:
            warm = await self._probes(self._calm_probes // 3)
            calm = await self._probes(self._calm_probes)
            before = self._peak = resident()
            began = time.monotonic()
            watching = asyncio.create_task(self._watch())
            probing = asyncio.create_task(self._probes(None))
            await self.push_more(self.row.count)
            try:
                async with asyncio.timeout(self._within):
                    await self.row.until(self)
            except TimeoutError:
                result.failures.append(f"{NOT_OVER} {self._within:g} s")
            except AssertionError as error:
                result.failures.append(str(error))
            elapsed = time.monotonic() - began
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            busy = [name for name in self._sent if name not in (*warm, *calm)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self.until(lambda: all(name in self.queued for name in self._sent))
            watching.cancel()
            self._peak = max(self._peak, resident())
            seen = await self._seen(elapsed)
        figures = {
            "calm p99": p99([self.queued[name] for name in calm if name in self.queued]),
            "busy p99": p99([self.queued.get(name, 9.9) for name in busy]),
            "MB": (self._peak - before) / 1024**2,
            "connects": seen.connects,
            "seconds": elapsed,
        }
        result.figures = figures
        self._judge(seen, result)
        if isinstance(self._peer, Gateway):
            result.broken += self._peer.broken
        return result

    def _judge(self, seen: Seen, result: Result) -> None:
        figures = result.figures

        @said("")
        def healthy(seen: Seen) -> None:
            expect(not self.complaints, f"{NO_PROOF}: {self.complaints[:1]}")
            bound = SLOWER * figures["calm p99"] + SLACK
            expect(figures["busy p99"] <= bound, f"{NO_PROOF}'s p99 is {figures['busy p99']:.3f} s, not {bound:.3f}")

        @said("")
        def memory(seen: Seen) -> None:
            bound = self.row.growth / 1024**2
            expect(figures["MB"] <= bound, f"grown by {figures['MB']:.1f} MB, not {bound:g}")

        checks: list[Expectation] = [*self.row.expect, healthy, memory]
        for check in checks:
            try:
                check.check(seen)
            except AssertionError as error:
                result.failures.append(str(error))

    async def push(self, count: int, domain: str = FAULTY) -> str:
        content = self.row.content if domain == FAULTY else b'{"aps":{}}'
        return await self.bench.accept(count, domain=domain, content=content, headers=HEADERS, media_type=MEDIA_TYPE)

    async def push_more(self, count: int) -> None:
        """More for the faulty route, in messages of no more than MESSAGE; what the row waits for includes them."""
        while count > 0:
            some = min(count, MESSAGE)
            count -= some
            batch_id = await self.push(some)
            self.ids += [uuid_of(batch_id, number) for number in range(1, some + 1)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when it holds of what the outbox has told."""
        while True:
            await self._hear()
            if condition():
                return
            await asyncio.sleep(0.02)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # -- its parts ------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _route(self) -> Any:
        fault = self.row.fault
        self._peer: Gateway | Proxy | Refusal | None = None
        if fault is None:
            yield free_port()
            return
        if isinstance(fault, Fault):
            self._peer = Proxy(fault, self.house.nginx_port)
        elif isinstance(fault, type):
            self._peer = fault(self.context)
        else:
            self._peer = Gateway(fault, self.context)
        async with self._peer as peer:
            yield peer.port

    def _bench(self, port: int) -> Bench:
        options = self.channel.Options
        route = parse_route(f"apn://{self.host}:{port}")
        names = {name: getattr(self.channel, name) for name in dir(self.channel) if not name.startswith("__")}
        counting = SimpleNamespace(**{**names, "connect": self._counted(port)})
        faulty = {
            "routes": (route,),
            "options": options.model_validate({key: value for key, value in self.options.items() if value is not None}),
            **self.settings,
        }
        return Bench(
            self.folder,
            counting,
            routes=(f"apn://localhost:{self.house.nginx_port}",),
            # Leaps of the clock are quicker than a busy machine: the healthy route's deadline is not what is tried.
            options=options.model_validate({**self.common, "delivery_response_timeout": "2h"}),
            others={FAULTY: faulty},
            clock=self.clock,
        )

    def _counted(self, port: int) -> Callable[..., Any]:
        connect = self.channel.connect

        async def counted(route: Any, *arguments: Any) -> Any:
            if route.port == port:
                self.connects += 1
            return await connect(route, *arguments)

        return counted

    async def _probes(self, count: int | None) -> list[str]:
        """Push to the healthy route, one at a time at a steady pace; *count* of them and their answers, or for ever."""
        sent: list[str] = []
        while count is None or len(sent) < count:
            sent.append(await self.push(1, HEALTHY))
            self._sent.append(sent[-1])
            await asyncio.sleep(PACE)
        await self.until(lambda: all(name in self.queued for name in sent))
        return sent

    async def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, resident())
            await asyncio.sleep(0.01)

    async def _hear(self) -> None:
        for row in await self.bench.spool.read_outbox(self._read, 5_000):
            self._read = row.sequence
            for event in row.events:
                if event.domain == FAULTY:
                    self._note(event)
                elif event.kind is Kind.DELIVERY and event.batch_id not in self.queued:
                    self.queued[event.batch_id] = self.clock.lived(event.time - event.queued, event.time)
                else:
                    self.complaints.append(repr(event))

    def _note(self, event: Event) -> None:
        if event.kind is Kind.DELIVERY:
            self.delivered[event.remote_id] += 1
        elif event.kind is Kind.TRANSIENT:
            self.tried.append(event)
        elif event.kind is Kind.PERMANENT:
            self.failed.append(event)
        elif event.kind is Kind.ROUTE:
            self.news.append(event)

    async def _seen(self, elapsed: float) -> Seen:
        await self._hear()
        rest = [entry for _, entry in await self.bench.spool.browse(Selection(domain=FAULTY), 0, 100_000)]
        if isinstance(self._peer, Gateway):
            received, answered = self._peer.received, self._peer.answered
        else:
            mine = set(self.ids)
            lines = [line.split(" ") for line in self.house.nginx_log.read_text().splitlines()]
            received = answered = Counter(line[0] for line in lines if line[0] in mine and line[1] == "200")
        return Seen(
            ids=self.ids,
            delivered=self.delivered,
            tried=self.tried,
            failed=self.failed,
            news=self.news,
            left=len(rest),
            attempts=max((entry.attempts for entry in rest), default=0),
            next_due=max((entry.due for entry in rest), default=0.0) - self.clock.time(),
            received=received,
            answered=answered,
            connects=self.connects,
            accepted=self._peer.accepted if self._peer is not None else [],
            elapsed=elapsed,
            stage=self,
        )


def resident() -> int:
    """Bytes of this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def p99(values: list[float]) -> float:
    """The 99th percentile; 0 of nothing."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))] if values else 0.0


def run_apart(name: str, house: House, folder: Path, *, defended: bool) -> Result:
    """Play the row of that name in a process of its own, and kill it when it does not end."""
    from tests.faults.table import ROWS

    context = multiprocessing.get_context("forkserver")
    # Read once: the processes are forked from one that has everything imported.
    context.set_forkserver_preload(["pytest", "tests.faults.table", "tests.faults.stage"])
    receiving, sending = context.Pipe(duplex=False)
    arguments = (name, house, folder, defended, sending)
    process = context.Process(target=_play, args=arguments, daemon=True)
    process.start()
    sending.close()
    limit = ROWS[name].within + BESIDE_OTHERS
    try:
        if not receiving.poll(limit):
            return Result(failures=[f"{NOT_ENDED} {limit:g} s"])
        result: Result = receiving.recv()
    except EOFError:
        return Result(failures=["its process died"])
    finally:
        process.kill()
        process.join()
        receiving.close()
    return result


def _play(name: str, house: House, folder: Path, defended: bool, sending: Connection) -> None:
    from tests.faults.table import ROWS

    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / "log", level=logging.INFO)

    async def play() -> Result:
        return await Stage(ROWS[name], house, folder, defended=defended).play()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(play())
    except BaseException:
        result = Result(broken=[traceback.format_exc()])
    result.log = (folder / "log").read_text()[-4_000:]
    sending.send(result)
