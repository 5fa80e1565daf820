"""Disks that fill up or go read-only, and clocks that jump: clients are told to come again, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import smtplib
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.sender import DOMAIN
from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.peers import find_program

USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{"alert":"%s"}}' % (b"x" * 3000))
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
WEEK = 7 * 86400


@contextlib.contextmanager
def mounted(path: Path, kind: str, options: str, device: str) -> Iterator[Path]:
    """A file system of its own."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, device, str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def command(process: EngineProcess, *arguments: str) -> None:
    subprocess.run(process.command(*arguments), check=True, capture_output=True)


def submit_until_refused(process: EngineProcess) -> tuple[list[str], smtplib.SMTPResponseException]:
    """Messages, one after the other; what got a 250, and the refusal."""
    accepted = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            accepted.append(process.send(MESSAGE, USER))
        except smtplib.SMTPResponseException as refusal:
            return accepted, refusal
    raise AssertionError("nothing was refused")


def assert_all_are_delivered(process: EngineProcess, accepted: list[str]) -> None:
    process.wait_for("D", len(accepted))
    process.wait(lambda: process.status()["queued"] == 0)
    lines = Counter(line[2] for line in process.apnlog)
    assert set(lines) >= {f"{one}-1" for one in accepted}
    assert set(lines.values()) == {1}
    done = subprocess.run(process.command("audit"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_on_a_disk_that_is_full_to_the_last_block_clients_come_again_and_all_is_delivered_when_there_is_room(
    tmp_path: Path, stanza: dict[str, Any]
) -> None:
    """Spool, state and logs on one small tmpfs, and no min_free."""
    with mounted(tmp_path / "disk", "tmpfs", "size=3m", "tmpfs") as disk:
        (disk / "logs").mkdir()
        places: dict[str, Any] = {
            "spool": {"path": str(disk / "spool"), "min_free": 0},
            "apn_logger": {"apn_logger1": {"logfile": str(disk / "logs" / "apnlog.ec")}},
            "ec_logger": {"ec_logger1": {"mainlog": str(disk / "logs" / "mainlog.ec")}},
        }
        (tmp_path / "engine").mkdir()
        (tmp_path / "engine" / "logs").symlink_to(disk / "logs")
        with engine(tmp_path / "engine", {DOMAIN: stanza}, **places) as process:
            command(process, "domain", "suspend", DOMAIN)
            accepted, refusal = submit_until_refused(process)
            assert refusal.smtp_code == 451
            assert accepted
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            accepted.append(process.send(MESSAGE, USER))
            command(process, "domain", "resume", DOMAIN)
            assert_all_are_delivered(process, accepted)


def test_when_the_spools_file_system_goes_read_only_clients_come_again_and_nothing_is_lost(
    tmp_path: Path, stanza: dict[str, Any]
) -> None:
    """As ext4 does it after an error of its device. It takes a new mount, and so a new start, to go on."""
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 32 * 1024**2)
    subprocess.run([find_program("mkfs.ext4"), "-q", str(image)], check=True)
    process = EngineProcess(
        tmp_path / "engine", {DOMAIN: stanza}, spool={"path": str(tmp_path / "disk" / "spool"), "min_free": 0}
    )
    with mounted(tmp_path / "disk", "ext4", "loop,errors=remount-ro", str(image)) as disk:
        process.start()
        command(process, "domain", "suspend", DOMAIN)
        accepted = [process.send(MESSAGE, USER) for _ in range(5)]
        subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)
        for _ in range(3):
            with pytest.raises(smtplib.SMTPResponseException) as refusal:
                process.send(MESSAGE, USER)
            assert refusal.value.smtp_code == 451
        assert process.status()["queued"] == len(accepted), "it answers no more"
        process.kill()
    with mounted(tmp_path / "disk", "ext4", "loop", str(image)):
        process.start()
        try:
            command(process, "domain", "resume", DOMAIN)
            accepted.append(process.send(MESSAGE, USER))
            assert_all_are_delivered(process, accepted)
        finally:
            process.stop()


def test_a_clock_that_jumps_a_week_both_ways_expires_nothing_and_stops_nothing(
    tmp_path: Path, stanza: dict[str, Any]
) -> None:
    """Messages live for a day here."""
    offset = tmp_path / "offset"

    def jump(seconds: int) -> None:
        part = offset.with_suffix(".part")
        part.write_text(f"{seconds:+d}")
        part.rename(offset)
        time.sleep(2.2)  # libfaketime and the engine look once a second

    offset.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    process = EngineProcess(tmp_path / "engine", {DOMAIN: stanza}, message_expiration=86400)
    process.start(env=environment)
    try:
        command(process, "domain", "suspend", DOMAIN)
        accepted = [process.send(MESSAGE, USER) for _ in range(5)]
        jump(WEEK)
        accepted.append(process.send(MESSAGE, USER))
        assert process.status()["queued"] == 6
        jump(-WEEK)
        accepted.append(process.send(MESSAGE, USER))
        assert process.status()["queued"] == 7
        command(process, "domain", "resume", DOMAIN)
        assert_all_are_delivered(process, accepted)
        times = sorted({int(float(line[0])) // 86400 for line in process.mainlog})
        assert times[-1] - times[0] >= 2 * 7, "the clock did not jump"
    finally:
        process.stop()
