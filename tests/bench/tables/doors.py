"""Table 7: every door for applications and old senders, all open in one engine: what it takes, delivers and costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from xmlrpc.client import ServerProxy, dumps

from tests.bench.contender import Contender
from tests.bench.gateway import AT_ONCE, Gateway, gateway
from tests.bench.mail import DOMAIN, PAYLOAD
from tests.bench.pairs import ROUNDS, interleaved
from tests.bench.results import Goal, Sample, Table, spread
from tests.bench.setting import Setting
from tests.bench.usage import cpu_of
from tests.support.beanstalkd import Beanstalkd, beanstalkd
from tests.support.doors import APP, KEY, SECRET, TOPIC, every_door
from tests.support.engine_process import EngineProcess, apn_domain
from tests.support.old_sender import OldSender, enhanced, token
from tests.support.tls import Certificates

WORKERS: Final = 2
LINES: Final = 500
"""Messages of one bulk request: those of mcmt.client."""
LIST: Final = 100
"""Notifications of one call of pyapns."""
PATIENCE: Final = 30.0
"""Seconds without progress until what lacks is lost."""
_device = re.compile(rb'"POST /3/device/([0-9a-f]+) ').findall


class Arrivals(NamedTuple):
    """nginx's log of device tokens, beside that of times."""

    file: Path

    def since(self, mark: int) -> list[bytes]:
        """The tokens of the requests past *mark*, in their order."""
        with self.file.open("rb") as log:
            log.seek(mark)
            return _device(log.read())

    def mark(self) -> int:
        """Where the log stands."""
        return self.file.stat().st_size


class Place(NamedTuple):
    """A running engine with every door, and what stands around it."""

    mcmt: Contender
    arrivals: Arrivals
    jobs: Beanstalkd
    certificates: Certificates


Send = Callable[[Place, range], float]
"""Have these numbers accepted; returns when the last one was, by time.time()."""


class Door(NamedTuple):
    """One way in, and how many clients use it."""

    name: str
    clients: str
    send: Send


class Run(NamedTuple):
    """What one run found beside its Sample."""

    accepted: float
    """A second."""
    lost: int
    repeated: int


# -- HTTP, whatever is said over it -----------------------------------------------------------------------------------


async def _client(port: int, requests: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    for request in requests:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.split(b" ")[1] in (b"200", b"202"), head
        length = re.search(rb"content-length: (\d+)", head)
        if length:
            body = await reader.readexactly(int(length[1]))
        else:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
            assert body.count(b'"status":202') == request.count(b"\n{"), body[-300:]
        assert b"<fault>" not in body, body
    writer.close()


def _ask(port: int, requests: Sequence[bytes], clients: int) -> float:
    """Each client sends the next request when it has its answer."""

    async def all_of_them() -> None:
        rest = iter(requests)
        await asyncio.gather(*[_client(port, rest) for _ in range(clients)])

    asyncio.run(all_of_them())
    return time.time()


def _post(path: str, content_type: str, body: bytes, **headers: str) -> bytes:
    fields = "".join([f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()])
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{fields}Content-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def _line(number: int) -> bytes:
    part = {"media_type": "message/vnd.msys.apn", "tokens": [token(number)], "json": json.loads(PAYLOAD)}
    return json.dumps({"to": [f"push@{DOMAIN}"], "parts": [part]}).encode()


def _api(numbers: range, size: int, *, keys: bool) -> list[bytes]:
    found = []
    for first in range(numbers.start, numbers.stop, size):
        some = range(first, min(first + size, numbers.stop))
        headers = {"Authorization": f"Bearer {KEY}", **({"Idempotency_Key": f"bench-{first}"} if keys else {})}
        if size == 1:
            found.append(_post("/v1/messages", "application/json", _line(first), **headers))
        else:
            # The line end before each is what is counted.
            body = b"".join([b"\n" + _line(number) for number in some])
            found.append(_post("/v1/messages", "application/x-ndjson", body, **headers))
    return found


def _http(clients: int, size: int, *, keys: bool = True) -> Send:
    def send(place: Place, numbers: range) -> float:
        return _ask(place.mcmt.engine.doors["http_listener"], _api(numbers, size, keys=keys), clients)

    return send


def _pyapns(clients: int, size: int) -> Send:
    def call(numbers: range) -> bytes:
        payload: Any = json.loads(PAYLOAD)
        tokens: Any = [token(number) for number in numbers]
        values = (APP, tokens, [payload] * size) if size > 1 else (APP, tokens[0], payload)
        return _post("/", "text/xml", dumps(values, "notify").encode())

    def send(place: Place, numbers: range) -> float:
        requests = [call(numbers[at : at + size]) for at in range(0, len(numbers), size)]
        return _ask(place.mcmt.engine.doors["pyapns"], requests, clients)

    return send


def _propeller(place: Place, numbers: range) -> float:
    def form(number: int) -> bytes:
        fields = {"auth_token": SECRET, "title": "Hello", "body": "x" * 120, "topic": TOPIC, "token": token(number)}
        return _post("/post", "application/x-www-form-urlencoded", urlencode(fields).encode())

    return _ask(place.mcmt.engine.doors["propeller"], [form(number) for number in numbers], 8)


# -- the others -------------------------------------------------------------------------------------------------------


def _frames(place: Place, numbers: range) -> float:
    """Two connections; a bad notification at the end of each confirms what stands before it."""
    certificates = place.certificates
    address = ("127.0.0.1", place.mcmt.engine.gateway_port)

    def push(some: range) -> None:
        frames = [enhanced(token(number), index, PAYLOAD) for index, number in enumerate(some)]
        sender = OldSender(address, certificates.ca, certificates.client, certificates.client_key)
        told = sender.push([*frames, enhanced("ab", len(some))])
        assert told is not None, "not confirmed"
        assert told.identifier == len(some), told

    half = len(numbers) // 2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(push, (numbers[:half], numbers[half:])))
    return time.time()


def _jobs(place: Place, numbers: range) -> float:
    """One producer; accepted is what was deleted."""
    goal = place.jobs.deleted() + len(numbers)
    with place.jobs.client(TOPIC) as client:
        for number in numbers:
            client.put(json.dumps({"token": token(number), "title": "Hello", "body": "x" * 120}))
    deadline = time.monotonic() + 120
    while place.jobs.deleted() < goal:
        assert time.monotonic() < deadline, place.mcmt.diagnostics
        time.sleep(0.005)  # a server of another process has no event to wait for
    return time.time()


DOORS: Final = (
    Door("HTTP API, one a request, no key", "8", _http(8, 1, keys=False)),
    Door("HTTP API, one a request, each with a key", "8", _http(8, 1)),
    Door(f"HTTP API, {LINES} lines a request, no key", "2", _http(2, LINES, keys=False)),
    Door(f"HTTP API, {LINES} lines a request, with a key", "2", _http(2, LINES)),
    Door("pyapns, one a call", "8", _pyapns(8, 1)),
    Door(f"pyapns, {LIST} a call", "2", _pyapns(2, LIST)),
    Door("propeller-apns", "8", _propeller),
    Door("binary protocol (`apns_gateway`), TLS", "2", _frames),
    Door("jobs from beanstalkd", "1 producer", _jobs),
)


def measure(setting: Setting) -> Table:
    """Run it."""
    count = setting.choose(5_000, 500)
    rounds = setting.choose(ROUNDS, 1)
    folder = setting.below("doors")
    found: dict[str, list[Run]] = {door.name: [] for door in DOORS}
    numbers = iter(range(0, 10**9, count))
    with open_doors(folder, setting.certificates) as place:
        for door in DOORS:
            first = next(numbers)
            run(place, door, range(first, first + min(count, 500)))

        def turn(door: Door) -> Sample:
            first = next(numbers)
            sample, more = run(place, door, range(first, first + count))
            found[door.name].append(more)
            return sample

        samples = interleaved({door.name: lambda door=door: turn(door) for door in DOORS}, setting.say, rounds)  # type: ignore[misc]
    lost, repeated = (sum([getattr(run, name) for runs in found.values() for run in runs]) for name in Run._fields[1:])
    return Table(
        title="Doors",
        how=(
            f"{count:,} notifications of 200 bytes through each door in turn, all of them open in one engine with "
            f"`workers: {WORKERS}`, fsync on, to nginx over TLS and HTTP/2. Each client waits for its answer before it "
            "sends the next request; the clients' own CPU is not counted, but they share the processors. Accepted: to "
            "the last acknowledgement (the binary protocol has none: a bad notification at the end confirms what "
            "stands before it; of beanstalkd: deleted). Delivered: to the last request at nginx. Lost and repeated are "
            f"device tokens at nginx, when the engine's queue is empty. Median of {rounds}, least and most in brackets."
        ),
        header=["door", "clients", "accepted/s", "delivered/s", "CPU a message, us", "lost", "repeated"],
        rows=[_row(door, samples[door.name], found[door.name]) for door in DOORS],
        goals=[
            Goal(
                f"{count:,} notifications through each door, none lost and none twice",
                f"{lost} lost, {repeated} twice",
                lost == repeated == 0,
            )
        ],
    )


def _row(door: Door, samples: Sequence[Sample], runs: Sequence[Run]) -> list[str]:
    return [
        door.name,
        door.clients,
        spread([run.accepted for run in runs]),
        spread([sample.rate for sample in samples]),
        spread([sample.cost for sample in samples]),
        str(sum([run.lost for run in runs])),
        str(sum([run.repeated for run in runs])),
    ]


def run(place: Place, door: Door, numbers: range) -> tuple[Sample, Run]:
    """*numbers* through *door*, until nothing of them is pending."""
    mcmt, expected = place.mcmt, {token(number).encode() for number in numbers}
    times, tokens, cpu = mcmt.gateway.mark(), place.arrivals.mark(), cpu_of(mcmt.pid)
    sink = cpu_of(mcmt.gateway.worker)
    began = time.time()
    accepted = door.send(place, numbers) - began
    arrived: list[bytes] = []
    changed = time.monotonic()
    while len(set(arrived)) < len(expected) and time.monotonic() - changed < PATIENCE:
        assert mcmt.alive(), mcmt.diagnostics
        time.sleep(0.02)  # a file of another process has no event to wait for
        before, arrived = len(arrived), place.arrivals.since(tokens)
        changed = time.monotonic() if len(arrived) > before else changed
    mcmt.engine.wait(lambda: all(not one.queued for one in mcmt.engine.domains()))
    cpu, sink = cpu_of(mcmt.pid) - cpu, cpu_of(mcmt.gateway.worker) - sink
    time.sleep(0.1)  # longer than nginx keeps lines before it writes them
    arrived = place.arrivals.since(tokens)
    assert set(arrived) <= expected, "tokens that nobody sent"
    pushes = mcmt.gateway.since(times)
    sample = Sample(len(numbers), pushes.last - began, cpu, sink=sink)
    return sample, Run(len(numbers) / accepted, len(expected - set(arrived)), len(arrived) - len(set(arrived)))


@contextlib.contextmanager
def open_doors(folder: Path, certificates: Certificates) -> Iterator[Place]:
    """An engine with every door, nginx behind it and a beanstalkd before it."""
    log = folder / "nginx" / "access.log"
    tokens = folder / "nginx" / "tokens.log"
    each = f"access_log {log} bench buffer=64k flush=50ms; access_log {tokens} combined buffer=64k flush=50ms;"
    with (
        gateway(folder / "nginx", certificates, f"{each} {AT_ONCE}") as sink,
        beanstalkd() as jobs,
        _engine(folder / "mcmt", certificates, sink, jobs) as engine,
    ):
        yield Place(Contender(engine, sink), Arrivals(tokens), jobs, certificates)


@contextlib.contextmanager
def _engine(folder: Path, certificates: Certificates, sink: Gateway, jobs: Beanstalkd) -> Iterator[EngineProcess]:
    stanzas = every_door(DOMAIN, certificates)
    stanzas["beanstalkd"] = {"connect": {jobs.address: {"tubes": {TOPIC: DOMAIN}}}}
    domain = apn_domain(sink.port, certificates)
    engine = EngineProcess(folder, {DOMAIN: domain}, workers=WORKERS, generate_bounces=False, **stanzas)
    engine.start()
    try:
        with ServerProxy(f"http://127.0.0.1:{engine.doors['pyapns']}/", allow_none=True) as client:
            client.provision(APP, "unused.pem", "sandbox", 15)
        yield engine
    finally:
        if engine.process is not None:
            try:
                engine.stop()
            except subprocess.TimeoutExpired:
                engine.kill()
