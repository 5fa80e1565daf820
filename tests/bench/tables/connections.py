"""Table 6: sessions that say nothing, beside busy ones."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

from tests.bench.contender import Contender, contender
from tests.bench.gateway import gateway
from tests.bench.mail import SESSIONS
from tests.bench.pairs import ROUNDS
from tests.bench.results import Goal, Sample, Table, median, spread
from tests.bench.setting import Setting
from tests.bench.usage import resident

IDLE = 2000
SLOWER = 0.10


def measure(setting: Setting) -> Table:
    """Run it."""
    count = setting.choose(10_000, 2_000)
    folder = setting.below("connections")
    _raise_open_files()
    limits: dict[str, Any] = {"max_connections": IDLE + 1000, "max_connections_per_address": IDLE + 1000}
    alone: list[Sample] = []
    beside: list[Sample] = []
    sizes = []
    with (
        gateway(folder / "nginx", setting.certificates) as sink,
        contender(folder / "mcmt", setting.certificates, sink, **limits) as mcmt,
    ):
        mcmt.end_to_end(500)
        for _ in range(ROUNDS):
            alone.append(mcmt.end_to_end(count))
            before = resident(mcmt.pid)
            with idle_sessions(mcmt, IDLE):
                sizes.append(max(0, resident(mcmt.pid) - before) / IDLE)
                beside.append(mcmt.end_to_end(count))
            setting.say(f"connections: {alone[-1].rate:,.0f}/s alone, {beside[-1].rate:,.0f}/s beside {IDLE:,} idle")
    relative = median([idle.rate / base.rate for base, idle in zip(alone, beside, strict=True)])
    return Table(
        title="Connections",
        how=(
            f"{SESSIONS} busy sessions of `smtp-source`, {count:,} messages, alone and beside {IDLE:,} sessions that "
            "have said EHLO and nothing since. `max_connections` and `max_connections_per_address` are raised to "
            f"{IDLE + 1000:,}. Pairs in turn, median of 3. Memory of each: what the first idle ones added."
        ),
        header=[
            "idle sessions",
            "messages/s",
            "of those alone",
            "CPU a message, us",
            "memory at most",
            "of one session",
        ],
        rows=[
            _row("0", alone, "", ""),
            _row(f"{IDLE:,}", beside, f"{relative:.2f}", f"{sizes[0] / 1024:.0f} KB"),
        ],
        goals=[
            Goal(
                f"at least 0.9 of the throughput beside {IDLE:,} idle sessions",
                f"{relative:.2f} of it",
                relative >= 1 - SLOWER,
            )
        ],
    )


def _row(name: str, samples: list[Sample], relative: str, each: str) -> list[str]:
    return [
        name,
        spread([sample.rate for sample in samples]),
        relative,
        spread([sample.cost for sample in samples]),
        f"{max(sample.memory for sample in samples) / 1024**2:.0f} MB",
        each,
    ]


@contextlib.contextmanager
def idle_sessions(mcmt: Contender, count: int) -> Iterator[None]:
    """Sessions that have been greeted, have said EHLO, and hold."""
    with contextlib.ExitStack() as stack:
        sessions = []
        for _ in range(count):
            session = stack.enter_context(socket.create_connection(("127.0.0.1", mcmt.engine.smtp_port), 10))
            assert session.recv(512).startswith(b"220"), "an idle session was turned away"
            session.sendall(b"EHLO idle.example.com\r\n")
            sessions.append(session)
        for session in sessions:
            assert session.recv(512).startswith(b"250"), "an idle session was turned away"
        yield


def _raise_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
