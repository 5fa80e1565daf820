"""How much work a message is on its whole way: fsyncs, writes, calls and objects, counted and not timed.

A figure that grows past its bound makes every message dearer: what for, should be said where the bound is raised.
System calls are counted by strace at the real process, calls and objects in an engine within this process. How
many messages share a transaction differs with the machine's load, so those bounds are some twice of what was counted.
"""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import channels.apn
import mcmt
from mcmt.app import App, load_channels, load_settings
from tests.support.engine_process import apn_domain, engine, mcmt_message
from tests.support.peers import find_program, nginx
from tests.support.tls import Certificates
from tests.system.test_load import DOMAIN, PAYLOAD, smtp_source

MESSAGES = 2000
SESSIONS = 100
OURS = tuple(f"{Path(file).parent}/" for file in (mcmt.__file__, str(Path(channels.apn.__file__).parent)))


@pytest.fixture(scope="module")
def system_calls(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Counter[str]:
    """System calls of the engine for MESSAGES messages, submitted command by command in SESSIONS sessions."""
    folder = tmp_path_factory.mktemp("work")
    found = folder / "strace"
    with (
        nginx(folder / "nginx", certificates) as peer,
        engine(folder / "engine", {DOMAIN: apn_domain(peer.port, certificates)}) as process,
    ):
        assert process.process is not None
        command = [find_program("strace"), "-f", "-c", "-o", str(found), "-p", str(process.process.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            try:
                assert smtp_source(folder, process.smtp_port, MESSAGES, SESSIONS).wait(60) == 0
                process.wait_for("D", MESSAGES, within=60)
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait(20)
        assert len(peer.requests()) == MESSAGES
    counts: Counter[str] = Counter()
    for line in found.read_text().splitlines():
        if match := re.fullmatch(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)", line):
            counts[match[2]] = int(match[1])
    return counts


def per_thousand(count: int) -> float:
    return count / MESSAGES * 1000


def test_a_thousand_messages_share_their_fsyncs(system_calls: Counter[str]) -> None:
    """58 were counted, for the spool, its checkpoints, two logs and what the logs remember."""
    synced = system_calls["fsync"] + system_calls["fdatasync"]
    assert synced > 10, "a 250 without an fsync is no 250"
    assert per_thousand(synced) < 150


def test_a_message_costs_few_writes_to_files(system_calls: Counter[str]) -> None:
    """2,330 for a thousand were counted: pages of the spool's WAL and of its checkpoints, and lines of the logs."""
    assert per_thousand(system_calls["pwrite64"]) < 5000


def test_a_message_costs_one_write_a_reply_and_a_share_of_one_to_the_gateway(system_calls: Counter[str]) -> None:
    """4,237 for a thousand were counted: four replies to a client that does not pipeline, and bursts to the gateway."""
    sent = sum(system_calls[name] for name in ("write", "writev", "sendto", "sendmsg"))
    assert per_thousand(sent) < 4800


class Work:
    """Counts calls of our Python functions in every thread, and how often a generation of new objects was full."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            self.calls[f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"] += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.calls.clear()
        yield
        self.total = self.calls.total()
        self.most = self.calls.most_common(12)


CONFIG = """
hostname: mx.example.com
spool: {path: spool, min_free: 0}
esmtp_listener: {listen: {"127.0.0.1:0": {mcmt_reception: allow}}}
generate_bounces: false
domain:
  apn.example.com: {delivery_method: discard, routes: ["discard://sink"]}
ec_logger: {ec_logger1: {mainlog: mainlog.ec}}
"""
TRANSACTION = (
    b"MAIL FROM:<app@example.com>\r\nRCPT TO:<user@apn.example.com>\r\nDATA\r\n",
    mcmt_message(PAYLOAD) + b".\r\n",
)


async def submit(host: str, port: int, count: int) -> None:
    """One session that pipelines as far as it may (RFC 2920)."""
    reader, writer = await asyncio.open_connection(host, port)
    await reader.readline()
    writer.write(b"EHLO client.example.com\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass
    for _ in range(count):
        for octets, replies in zip(TRANSACTION, (3, 1), strict=True):
            writer.write(octets)
            for _ in range(replies):
                assert (await reader.readline())[:1] in b"23"
    writer.close()


async def test_calls_and_objects_of_a_message_from_the_socket_to_the_log(tmp_path: Path) -> None:
    """Of a message, in 20 sessions: 149 calls of our Python functions were counted (135 before there were priorities,
    throttles and traces), and of objects that the collector
    watches 1.4 more that came than went."""
    (tmp_path / "mcmt.yaml").write_text(CONFIG)
    loaded = load_channels()
    app = App(load_settings(tmp_path / "mcmt.yaml", loaded).settings, loaded)
    work = Work()
    threading.setprofile(work.note)
    try:
        await app.start()
        host, port = app.doors.addresses[0]
        await submit(host, port, 50)
        collections = gc.get_stats()[0]["collections"]
        sys.setprofile(work.note)
        with work.counted():
            await asyncio.gather(*(submit(host, port, 50) for _ in range(20)))
            await app.eventlog.flushed()
        sys.setprofile(None)
        filled = (gc.get_stats()[0]["collections"] - collections) * gc.get_threshold()[0]
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        await app.stop()
    assert 50 < work.total / 1000 < 155, work.most
    assert filled / 1000 < 10
