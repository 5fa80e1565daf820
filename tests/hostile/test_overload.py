"""More comes in than goes out: memory stays bounded, clients are told to come again, and then are taken again."""

from __future__ import annotations

import contextlib
import smtplib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hostile.test_clients import MB, Watch
from tests.support.engine_process import EngineProcess, engine

SINK = {"delivery_method": "discard", "routes": ["discard://sink"]}
MESSAGE = b"Subject: more\r\n\r\n" + (b"x" * 998 + b"\r\n") * 60
SENDERS = 8
REFUSAL = b"452 4.3.1 not enough room on the disk here; try again later"


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def flood(process: EngineProcess, domain: str) -> tuple[int, bytes]:
    """Send until it is refused: how many were taken, and the refusal."""
    with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as client:
        client.ehlo()
        for taken in range(100_000):
            client.mail("app@example.com")
            client.rcpt(f"t@{domain}")
            code, text = client.data(MESSAGE)
            if code != 250:
                return taken, b"%d %s" % (code, text)
    raise AssertionError("it takes without an end")


def delivered(process: EngineProcess) -> int:
    return sum(line[4] == "D" for line in process.mainlog)


def test_at_the_watermark_clients_are_told_to_come_again_and_afterwards_they_are_taken(tmp_path: Path) -> None:
    """Twice, without a restart: what was delivered leaves its room inside the spool's file, which does not shrink."""
    domains = {"slow.example.com": SINK, "sink.example.com": SINK}
    with small_disk(tmp_path / "disk", 160) as disk:
        spool = {"path": str(disk / "spool"), "min_free": "80MB"}
        with engine(tmp_path / "engine", domains, spool=spool) as process, Watch(process) as memory:
            taken = []
            for _ in range(2):
                process.operate("domain", "suspend", "slow.example.com")
                with ThreadPoolExecutor(SENDERS) as senders:
                    ends = list(senders.map(lambda _: flood(process, "slow.example.com"), range(SENDERS)))
                assert {refusal for _, refusal in ends} == {REFUSAL}
                taken.append(sum(count for count, _ in ends))
                process.operate("domain", "resume", "slow.example.com")
                process.wait(lambda: delivered(process) >= sum(taken))
                process.send(MESSAGE, "t@sink.example.com")
                taken.append(1)
            assert taken[0] > 200
            assert taken[2] > taken[0] / 2
            # All of it was on disk, some 130 MB, and what is on its way out of it has its own bounds.
            assert memory.grown < 72 * MB, memory.grown
            process.wait(lambda: delivered(process) == sum(taken))
