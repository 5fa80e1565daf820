"""Rotation under load: two logs at 20,000 lines a second each, killed and started again; and the real engine's."""

from __future__ import annotations

import gzip
import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mcmt.control.client import ControlClient
from mcmt.control.protocol import Ids
from tests.support.engine_process import EngineProcess, engine, mcmt_message

RATE = 20_000
SIZE = 512 * 1024
_ROTATED = re.compile(r"\.ec-\d{8}T\d{6}Z(\.gz)?")


class Writer:
    """One run of tests/system/rotating_writer.py."""

    def __init__(self, folder: Path, run: int, seconds: float) -> None:
        command = [sys.executable, "-m", "tests.system.rotating_writer", str(folder), str(run), str(seconds)]
        self.process = subprocess.Popen(
            [*command, str(RATE), str(SIZE)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        self.recorded = 0
        self.report: dict[str, Any] = {}
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._started.wait(20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("recorded "):
                self.recorded = int(line.split()[1])
            elif line.startswith("{"):
                self.report = json.loads(line)
            else:
                self._started.set()

    def end(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(30)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        assert self.end() == -signal.SIGKILL


def files_of(log: Path) -> list[Path]:
    """Every file of a log, in the order in which they were written, however they were named."""
    rotated = [each for each in log.parent.iterdir() if each.name.startswith(f"{log.name}-")]
    assert all(_ROTATED.fullmatch(each.name.removeprefix(log.stem)) for each in rotated), rotated
    return [*sorted(rotated), log]


def flush(process: EngineProcess) -> None:
    """Return when every event has its line."""
    with ControlClient(process.folder / "spool" / "control.sock") as client:
        for _ in client.ask_raw(Ids()):
            pass


def lines_of(log: Path, *others: Path) -> Iterator[str]:
    """Every line of every file of a log; a file that does not end with a line's end is a failure."""
    for file in (*others, *files_of(log)):
        text = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
        assert not text or text.endswith("\n"), file
        yield from text.splitlines()


def test_twenty_thousand_lines_a_second_through_everything_are_each_there_once(tmp_path: Path) -> None:
    """Rotation by size, compression, SIGHUP with and without a rename, and kill -9, on two logs at once."""
    logs = (tmp_path / "apnlog.ec", tmp_path / "mainlog.ec")
    theirs: list[Path] = []
    durable: dict[int, int] = {}
    for run, seconds in enumerate((1.2, 0.9, 0.7)):
        writer = Writer(tmp_path, run, 60)
        stop = time.monotonic() + seconds
        for turn in count():
            if time.monotonic() >= stop:
                break
            if turn == 2:  # as logrotate does
                theirs.append(tmp_path / f"apnlog.ec.{run}")
                logs[0].rename(theirs[-1])
            writer.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)  # lets lines be written; nothing is waited for
        writer.kill()
        durable[run] = writer.recorded
    last = Writer(tmp_path, len(durable), 1.5)
    assert last.end() == 0
    print(last.report)  # the rate, and how long lines waited: pytest -rP shows it
    durable[len(durable)] = last.report["recorded"]

    for log in logs:
        number = re.compile(r"@(\d+)-(\d+)@" if log == logs[0] else r"\d+@(\d+)-(\d+)@")
        shape = None
        found: dict[int, list[int]] = {run: [] for run in durable}
        for line in lines_of(log, *(theirs if log == logs[0] else [])):
            match = number.search(line)
            assert match, line
            found[int(match[1])].append(int(match[2]))
            shape = shape or line.count("@")
            assert line.count("@") == shape, line
        for run, numbers in found.items():
            # Those that others renamed are read first, out of order.
            in_order = sorted(numbers) if log == logs[0] else numbers
            assert in_order == list(range(len(numbers))), f"{log.name}, run {run}"
            assert len(numbers) >= durable[run] > 0
    assert len(files_of(logs[1])) > 10
    assert sum(file.suffix == ".gz" for file in files_of(logs[1])) > 5
    assert last.report["told"] == []


ROTATE = {"size": "64KB", "every": "none", "keep": "all"}
MAIN = {name: {"mainlog": f"logs/{name}.ec", "heartbeat": 0, "rotate": ROTATE} for name in ("one", "two")}


def send(engine: EngineProcess, messages: int, recipients: int) -> list[str]:
    """So many messages, each one reception and one delivery a recipient; returns the batch ids."""
    ids = []
    with smtplib.SMTP("127.0.0.1", engine.smtp_port, timeout=20) as client:
        client.ehlo()
        for _ in range(messages):
            assert client.mail("app@example.com")[0] == 250
            for number in range(recipients):
                assert client.rcpt(f"user{number}@discard.example.com")[0] == 250
            code, text = client.data(mcmt_message(b'{"aps":{}}'))
            assert code == 250, text
            ids.append(text.decode().split()[1])
    return ids


@pytest.fixture
def running(tmp_path: Path) -> Iterator[EngineProcess]:
    domain = {"delivery_method": "discard", "routes": ["discard://sink"]}
    with engine(tmp_path, {"discard.example.com": domain}, ec_logger=MAIN, apn_logger={}) as process:
        yield process


def rotate(engine: EngineProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcmt", "log", "rotate", *arguments, "--config", str(engine.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_engines_logs_rotate_through_commands_signals_and_a_kill(running: EngineProcess) -> None:
    logs = [running.folder / "logs" / f"{name}.ec" for name in MAIN]
    theirs = logs[0].with_name("one.ec.1")
    ids: list[str] = []
    answers: list[dict[str, Any]] = [{}]
    # A file that was just begun, because the last one was full, is empty and stays.
    while not all(answer.get("rotated") for answer in answers):
        assert len(ids) < 5 * 23
        ids += send(running, 23, 50)
        flush(running)
        done = rotate(running, "--json")
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["logger"] for answer in answers] == ["ec_logger.one", "ec_logger.two"]
    assert all(_ROTATED.fullmatch(Path(answer["rotated"]).name[3:]) for answer in answers)

    ids += send(running, 20, 50)
    logs[0].rename(theirs)
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    running.wait(logs[0].exists)
    ids += send(running, 20, 50)
    running.kill()
    running.start()
    ids += send(running, 1, 1)
    running.wait(lambda: sum(ids[-1] in line for line in logs[1].read_text().splitlines()) == 2)
    # A file that is being compressed has a third name for a moment.
    running.wait(lambda: all(file.suffix == ".gz" for log in logs for file in log.parent.glob(f"{log.name}-*")))
    assert running.stop() == 0

    expected = sorted((kind, f"{id_}-{n}") for id_ in ids[:-1] for kind in "DR" for n in range(1, 51))
    expected = sorted([*expected, ("D", f"{ids[-1]}-1"), ("R", f"{ids[-1]}-1")])
    for log in logs:
        found = []
        for line in lines_of(log, *([theirs] if log == logs[0] else [])):
            fields = line.split("@")
            assert len(fields) == {"R": 15, "D": 12}[fields[4]], line
            found.append((fields[4], fields[1]))
        assert sorted(found) == expected
        assert len(files_of(log)) > 5


def test_by_hand_one_log_is_rotated_and_an_unknown_one_is_refused(running: EngineProcess) -> None:
    log = running.folder / "logs" / "one.ec"
    send(running, 1, 2)
    running.wait(lambda: log.read_text().count("\n") == 4)
    text = log.read_text()
    done = rotate(running, "one")
    assert (done.returncode, done.stderr) == (0, "")
    running.wait(lambda: Path(f"{done.stdout.strip()}.gz").exists())
    assert gzip.decompress(Path(f"{done.stdout.strip()}.gz").read_bytes()).decode() == text
    again = rotate(running, "ec_logger.one")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == f"{log}: not rotated: it is empty\n"
    unknown = rotate(running, "three")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "Error: there is no logger three; there are: ec_logger.one, ec_logger.two\n"
