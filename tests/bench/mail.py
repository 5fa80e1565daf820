"""Mail going in: Postfix's smtp-source for load, Postfix with smtp-sink as the peer, and a client that keeps time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mcmt.message.identity import uuid_of
from tests.bench.installs import eatmydata_library
from tests.support.engine_process import mcmt_message
from tests.support.mail_peers import postfix, public_folder, wait_for
from tests.support.peers import find_program, free_port, running
from tests.support.tls import Certificates

DOMAIN = "apn.example.com"
SESSIONS = 100


def payload(size: int) -> bytes:
    """A push of exactly so many bytes."""
    empty = b'{"aps":{"alert":"","sound":"default"}}'
    return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"', 1)


PAYLOAD = payload(200)
MESSAGE = mcmt_message(PAYLOAD)
URGENT = b"MT-Priority: 3\r\n" + MESSAGE
"""As a one-time code is sent."""


def fan_out_message(count: int, first: int = 0) -> bytes:
    """One message for so many device tokens."""
    return mcmt_message(PAYLOAD, token=",\r\n ".join(f"{number:064x}" for number in range(first, first + count)))


def smtp_source(folder: Path, port: int, count: int, sessions: int = SESSIONS) -> subprocess.Popen[bytes]:
    """Submit *count* messages over *sessions* sessions that stay open."""
    file = folder / "message"
    if not file.exists():
        file.write_bytes(MESSAGE.replace(b"\r\n", b"\n"))  # smtp-source makes its own line ends
    command = [find_program("smtp-source"), "-d", "-s", str(sessions), "-m", str(count), "-F", str(file)]
    return subprocess.Popen([*command, "-f", "app@example.com", "-t", f"user@{DOMAIN}", f"127.0.0.1:{port}"])


# -- the peer ---------------------------------------------------------------------------------------------------------

# All else is Postfix's default, which is at its best here: with 100 deliveries at once, 200 processes that stay and no
# in_flow_delay it did 500 to 560 messages a second where the defaults did 700 to 1,060.
RELAY = "relayhost = [127.0.0.1]:{sink}\n"
UNSAFE = "import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD={library}\n"


def sink_count(said: bytes) -> int:
    """How many messages smtp-sink -c has counted: its counters, one after another, parted by CR."""
    counts = re.findall(rb"mesg=(\d+)\r", said)
    return int(counts[-1]) if counts else 0


class Relay(NamedTuple):
    """A running Postfix that hands everything to smtp-sink."""

    port: int
    master: int
    counter: Path

    def arrived(self) -> int:
        """Messages at the far end."""
        with self.counter.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 200))
            return sink_count(file.read())


@contextlib.contextmanager
def relay(certificates: Certificates, *, fsync: bool = True) -> Iterator[Relay]:
    """smtp-source -> Postfix's queue -> smtp-sink. The port is Postfix's."""
    port = free_port()
    library = "" if fsync else eatmydata_library()
    more = RELAY.format(sink=port) + ("" if fsync else UNSAFE.format(library=library))
    with public_folder() as folder:
        counter = folder / "counter"
        command = [find_program("smtp-sink"), "-u", "root", "-c", f"127.0.0.1:{port}", "1000"]
        with (
            counter.open("wb") as out,
            running(command, port, stdout=out),
            postfix(certificates, more=more) as server,
        ):
            master = int((server.log.parent / "queue" / "pid" / "master.pid").read_text())
            children = Path(f"/proc/{master}/task/{master}/children")
            wait_for(lambda: bool(children.read_text()))

            def preloaded() -> bool:
                environments = [Path(f"/proc/{pid}/environ").read_text() for pid in children.read_text().split()]
                return bool(library) and all(library in environment for environment in environments)

            # A child has its own environment once it has become its program: eatmydata is where it should be.
            wait_for(lambda: preloaded() is not fsync)
            yield Relay(server.port, master, counter)


# -- a client that keeps time -----------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """One message of the timed client; times are seconds since the epoch."""

    apns_id: str
    dot: float
    """When its last octet was written."""
    accepted: float
    """When the 250 was there."""


async def _session(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _reply(reader, b"220")
    writer.write(b"EHLO client.example.com\r\n")
    await _reply(reader, b"250")
    return reader, writer


async def _reply(reader: asyncio.StreamReader, code: bytes) -> bytes:
    while True:
        line = await reader.readline()
        assert line.startswith(code), line
        if line[3:4] == b" ":
            return line


async def send_at_rate(
    port: int, rate: float, seconds: float, sessions: int = 20, message: bytes = MESSAGE
) -> list[Sent]:
    """Send one *message* every ``1 / rate`` seconds, whatever the answers take, each over a session that is free."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(sessions):
        free.put_nowait(await _session(port))
    envelope = f"MAIL FROM:<app@example.com>\r\nRCPT TO:<user@{DOMAIN}>\r\nDATA\r\n".encode()
    content = message + b".\r\n"
    sent: list[Sent] = []

    async def one() -> None:
        reader, writer = await free.get()
        writer.write(envelope)
        for code in (b"250", b"250", b"354"):
            await _reply(reader, code)
        writer.write(content)
        dot = time.time()
        reply = await _reply(reader, b"250")
        accepted = time.time()
        sent.append(Sent(uuid_of(reply.split()[2].decode(), 1), dot, accepted))
        free.put_nowait((reader, writer))

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            group.create_task(one())
    while not free.empty():
        free.get_nowait()[1].close()
    return sent
