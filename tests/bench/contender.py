"""mcmt as the benchmark runs it: the real process, one domain to nginx, one to a port where nobody listens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.gateway import Gateway
from tests.bench.installs import eatmydata_library
from tests.bench.mail import DOMAIN, SESSIONS, Relay, fan_out_message, smtp_source
from tests.bench.results import Sample
from tests.bench.usage import children_cpu, cpu_of, forget_peaks, peaks_resident
from tests.support.engine_process import EngineProcess, apn_domain
from tests.support.tls import Certificates

DEAD = "dead.example.com"
OTHER = "other.example.com"
TOKENS = 10_000
"""Of one message: max_deliveries_per_message."""


def count_deliveries(data: bytes) -> int:
    """Lines of successful deliveries in a notification log; ``@D@`` stands nowhere else in a line."""
    return data.count(b"@D@")


class Contender(NamedTuple):
    """A running mcmt and the nginx that it pushes to."""

    engine: EngineProcess
    gateway: Gateway

    @property
    def pid(self) -> int:
        """Of the engine."""
        assert self.engine.process is not None
        return self.engine.process.pid

    @property
    def apnlog(self) -> Path:
        """Its notification log."""
        return self.engine.folder / "logs" / "apnlog.ec"

    def alive(self) -> bool:
        """It runs."""
        return self.engine.process is not None and self.engine.process.poll() is None

    def wait_for_lines(self, offset: int, count: int, within: float = 120.0) -> float:
        """Return when the notification log has *count* deliveries past *offset*; how long ago the first look was."""
        started = time.monotonic()
        lines = 0
        while lines < count:
            assert time.monotonic() - started < within, f"{lines} lines of {count}: {self.diagnostics}"
            with self.apnlog.open("rb") as file:
                file.seek(offset)
                # Whole lines only: the rest is read again.
                data = file.read().rpartition(b"\n")[0]
            offset += len(data)
            lines += count_deliveries(data)
            if lines < count:
                time.sleep(0.02)  # a file of another process has no event to wait for
        assert lines == count, f"{lines} lines for {count} deliveries"
        return time.monotonic() - started

    @property
    def diagnostics(self) -> str:
        """The end of what it said."""
        return self.engine.diagnostics.read_text()[-1000:]

    def end_to_end(self, count: int, sessions: int = SESSIONS) -> Sample:
        """*count* messages by smtp-source, from its start to the last answer that nginx has logged."""
        offset = self.log_size()
        mark, cpu, sink = self.gateway.mark(), cpu_of(self.pid), cpu_of(self.gateway.worker)
        reaped = children_cpu()
        forget_peaks(self.pid)
        started = time.time()
        source = smtp_source(self.engine.folder, self.engine.smtp_port, count, sessions)
        pushes = self.gateway.wait(mark, count, within=180, alive=self.alive)
        assert source.wait(30) == 0
        assert len(set(pushes.ids)) == count
        self.wait_for_lines(offset, count)
        return Sample(
            count,
            pushes.last - started,
            cpu_of(self.pid) - cpu,
            sum(peaks := peaks_resident(self.pid)),
            max(peaks),
            cpu_of(self.gateway.worker) - sink,
            children_cpu() - reaped,
        )

    def fan_out(self, messages: int, tokens: int = TOKENS) -> tuple[Sample, float]:
        """*messages* messages of *tokens* tokens each, one after another; also the seconds until the last log line."""
        blobs = [fan_out_message(tokens, number * tokens) for number in range(messages)]
        count, offset = messages * tokens, self.log_size()
        mark, cpu, sink = self.gateway.mark(), cpu_of(self.pid), cpu_of(self.gateway.worker)
        forget_peaks(self.pid)
        started = time.time()
        for blob in blobs:
            self.engine.send(blob, f"user@{DOMAIN}")
        self.wait_for_lines(offset, count, within=300)
        logged = time.time() - started
        pushes = self.gateway.wait(mark, count, within=60, alive=self.alive)
        assert len(set(pushes.ids)) == count
        peaks, sink = peaks_resident(self.pid), cpu_of(self.gateway.worker) - sink
        cpu = cpu_of(self.pid) - cpu
        return Sample(count, pushes.last - started, cpu, sum(peaks), max(peaks), sink), logged

    def fill(self, count: int, domain: str = DEAD) -> float:
        """Have so many deliveries queued for *domain*; the seconds it took."""
        started = time.monotonic()
        for first in range(0, count, TOKENS):
            self.engine.send(fan_out_message(TOKENS, first), f"user@{domain}")
        return time.monotonic() - started

    def log_size(self) -> int:
        """Bytes in the notification log."""
        return self.apnlog.stat().st_size if self.apnlog.exists() else 0


def relayed(peer: Relay, count: int, folder: Path) -> Sample:
    """The same for Postfix: from smtp-source's start to smtp-sink's count of the last message."""
    before, cpu = peer.arrived(), cpu_of(peer.master)
    started = time.time()
    source = smtp_source(folder, peer.port, count)
    while peer.arrived() < before + count:
        assert time.time() - started < 180, f"smtp-sink has counted {peer.arrived() - before} of {count}"
        time.sleep(0.01)  # a file of another process has no event to wait for
    seconds = peer.counter.stat().st_mtime - started
    assert source.wait(30) == 0
    return Sample(count, seconds, cpu_of(peer.master) - cpu)


@contextlib.contextmanager
def contender(
    folder: Path,
    certificates: Certificates,
    gateway: Gateway,
    *,
    fsync: bool = True,
    workers: int | str = "auto",
    **listener: Any,
) -> Iterator[Contender]:
    """A running mcmt. *listener*: options of ``esmtp_listener``."""
    domains = {
        DOMAIN: apn_domain(gateway.port, certificates),
        OTHER: apn_domain(gateway.port, certificates),
        DEAD: apn_domain(1, certificates),  # nobody listens on port 1
    }
    listen = {"127.0.0.1:0": {"mcmt_reception": "allow"}}
    engine = EngineProcess(folder, domains, workers=workers, esmtp_listener={"listen": listen, **listener})
    environment = os.environ if fsync else {**os.environ, "LD_PRELOAD": eatmydata_library()}
    engine.start(env=environment)
    try:
        yield Contender(engine, gateway)
    finally:
        if engine.process is not None:
            try:
                engine.stop()
            except subprocess.TimeoutExpired:
                engine.kill()
