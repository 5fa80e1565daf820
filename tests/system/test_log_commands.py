"""``mcmt log tail``, ``grep`` and ``summary`` on the logs of a real engine."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import TOKEN, EngineProcess, engine, mcmt_message
from tests.support.simulator_process import simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{}}')
GONE = mcmt_message(b'{"aps":{}}', token="dead410000" + "0" * 54)


def mcmt(process: EngineProcess, *arguments: str, code: int = 0) -> list[str]:
    command = [sys.executable, "-m", "mcmt", *arguments, "--config", str(process.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return (done.stdout if code != 2 else done.stderr).splitlines()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with simulator(tmp_path_factory.mktemp("gateway")) as gateway:
        loggers = {
            "apn_logger": {"apn_logger1": {"logfile": "logs/apnlog.jsonl", "format": "json", "token_log": "hash"}}
        }
        with engine(tmp_path_factory.mktemp("engine"), {DOMAIN: gateway.stanza}, **loggers) as running:
            running.sent = [running.send(MESSAGE, USER)]  # type: ignore[attr-defined] # for the tests below
            running.wait(lambda: len(running.mainlog) >= 2)
            running.operate("log", "rotate")
            for old in running.folder.glob("logs/*-2*Z"):
                old.with_name(old.name + ".gz").write_bytes(gzip.compress(old.read_bytes()))
                old.unlink()
            running.sent += [running.send(GONE, USER), running.send(MESSAGE, USER)]  # type: ignore[attr-defined]
            running.wait(lambda: sum(fields[4] in "DP" for fields in running.mainlog) >= 2)
            yield running


def sent(process: EngineProcess) -> list[str]:
    ids: list[str] = process.sent  # type: ignore[attr-defined] # as above
    return ids


def kinds(lines: list[str]) -> str:
    return "".join(line.split("@")[4] for line in lines)


def test_grep_finds_over_rotated_and_compressed_files_the_oldest_first(process: EngineProcess) -> None:
    assert kinds(mcmt(process, "log", "grep", "--domain", DOMAIN)).startswith("RD")
    assert kinds(mcmt(process, "log", "grep", "--id", sent(process)[0])) == "RD"
    assert kinds(mcmt(process, "log", "grep", "--id", f"{sent(process)[1]}-1", "--outcome", "permanent")) == "P"
    assert kinds(mcmt(process, "log", "grep", "410 Unregistered", "--since", "1h")) == "P"
    assert mcmt(process, "log", "grep", "--id", "01a2048fb4ae70d48ac71a7a", code=1) == []


def test_grep_finds_a_token_where_a_log_has_it_as_a_hash(process: EngineProcess) -> None:
    lines = [json.loads(line) for line in mcmt(process, "log", "grep", "--token", TOKEN)]
    assert [line["type"] for line in lines] == ["D", "D"]
    assert TOKEN not in json.dumps(lines)
    (line,) = mcmt(process, "log", "grep", "--token", "dead410000" + "0" * 54, "--outcome", "permanent", "--json")
    told = json.loads(line)
    assert (told["log"], told["type"], told["domain"]) == ("apn_logger.apn_logger1", "P", DOMAIN)
    assert json.loads(told["line"])["code"] == "410"


def test_what_cannot_be_searched_is_told(process: EngineProcess) -> None:
    assert "there is no log nosuch" in mcmt(process, "log", "grep", "--log", "nosuch", code=2)[-1]
    assert "no log has device tokens" in mcmt(process, "log", "grep", "--log", "ec_logger1", "--token", "x", code=2)[-1]
    assert "expected a duration" in mcmt(process, "log", "grep", "--since", "yesterday", code=2)[-1]


def test_summary_tells_outcomes_by_reason_and_delays(process: EngineProcess) -> None:
    shown = "\n".join(mcmt(process, "log", "summary", "--since", "1h"))
    assert re.search(rf"{DOMAIN} +received +3\b", shown)
    assert re.search(r"delivered +2 +66\.7%", shown)
    assert re.search(r"permanent +1 +33\.3% +410 Unregistered", shown)
    assert re.search(r"up to \S+ m?s +\d+ +#", shown)
    told = json.loads("\n".join(mcmt(process, "log", "summary", "--domain", DOMAIN, "--json")))
    assert told["totals"] == {"received": 3, "delivered": 2, "permanent": 1}
    assert {"domain": DOMAIN, "outcome": "permanent", "reason": "410 Unregistered", "count": 1} in told["rows"]
    assert sum(delay["count"] for delay in told["delays"]) == 3
    assert mcmt(process, "log", "summary", "--until", "1d") == ["There is no line in this time."]


def test_tail_shows_the_last_lines_that_are_wanted(process: EngineProcess) -> None:
    assert kinds(mcmt(process, "log", "tail", "-n", "1", "--outcome", "permanent")) == "P"
    (line,) = mcmt(process, "log", "tail", "--id", sent(process)[0], "-n", "1", "--json")
    assert json.loads(line)["type"] == "D"


def test_tail_follows_and_nothing_comes_twice_or_is_missed(process: EngineProcess) -> None:
    command = [sys.executable, "-m", "mcmt", "log", "tail", "--follow", "-n", "2", "--outcome", "delivered"]
    running = subprocess.Popen([*command, "--config", str(process.config)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        lines = [running.stdout.readline() for _ in range(2)]
        process.send(MESSAGE, USER)
        lines.append(running.stdout.readline())
        process.operate("log", "rotate")
        process.send(MESSAGE, USER)
        lines.append(running.stdout.readline())
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0, "Ctrl-C is how it is ended"
    finally:
        running.kill()
        running.wait(10)
        running.stdout.close()
    assert kinds(lines) == "DDDD"
    assert len(set(lines)) == 4


def test_half_a_million_lines_take_seconds(tmp_path: Path, process: EngineProcess) -> None:
    """Of CPU, so that the neighbours on this machine do not count."""
    from mcmt.eventlog.readback import LogReader
    from mcmt.eventlog.search import Search, Wanted
    from mcmt.eventlog.summary import Summary

    line = (
        "1795372856@01a2048fb4ae70d48ac71{:05x}-1@01a2048fb4ae70d48ac71{:05x}@@D@apn.example.com"
        "@458@default@default@0@0.049@127.0.0.1\n"
    )
    path = tmp_path / "mainlog.ec"
    path.write_text("".join(line.format(number, number) for number in range(500_000)))

    def cost(**wanted: Any) -> tuple[float, int]:
        before, search, found = time.process_time(), Search(Wanted(**wanted), main=True), 0
        for lines in LogReader(path).in_order():
            found += len(search.among(lines))
        return time.process_time() - before, found

    spent, found = cost(id="01a2048fb4ae70d48ac71000ff")
    assert found == 1
    assert spent < 2
    spent, found = cost(outcomes=frozenset({"delivered"}), domain=DOMAIN)
    assert found == 500_000
    assert spent < 8
    before, sums = time.process_time(), Summary()
    for lines in LogReader(path).in_order():
        sums.take(lines)
    assert sums.totals == {"delivered": 500_000}
    assert time.process_time() - before < 8
