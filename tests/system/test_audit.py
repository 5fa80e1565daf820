"""``mcmt audit`` against the real engine: what is well is proven at any moment, what is wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import apsw

from mcmt.spool.sqlite import SHARD
from tests.support.engine_process import EngineProcess, engine

MAIL = b"From: app@example.com\r\nTo: user@sink.example.com\r\nSubject: hello\r\n\r\nhello\r\n"
SINK: dict[str, Any] = {"delivery_method": "discard", "routes": ["discard://sink"]}
DOMAINS = {"sink.example.com": SINK, "held.example.com": {**SINK, "suspend_delivery": True}}


def audit(process: EngineProcess, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mcmt", "audit", "--config", str(process.config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def account(process: EngineProcess) -> dict[str, Any]:
    code, output = audit(process, "--json")
    told: dict[str, Any] = json.loads(output)
    assert code == (0 if told["verdict"] == "proven" else 1)
    return told


def command(process: EngineProcess, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mcmt", *arguments, "--config", str(process.config)], check=True, timeout=60)


def test_a_line_deleted_another_doubled_and_a_row_damaged_are_all_three_named(tmp_path: Path) -> None:
    logs = {"ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", "rotate": {"keep": "all", "compress": "none"}}}}
    with engine(tmp_path, {**DOMAINS, "held.example.com": SINK}, **logs) as process:
        command(process, "domain", "suspend", "held.example.com")
        sent = [process.send(MAIL, "user@sink.example.com") for _ in range(4)]
        held = [process.send(MAIL, "user@held.example.com", "other@held.example.com") for _ in range(2)]
        code, output = audit(process)
        assert code == 0, output
        assert [line.split()[:2] for line in output.splitlines()[1:-1]] == [
            ["accepted", "8"],
            ["delivered", "4"],
            ["failed", "0"],
            ["queued", "4"],
            ["quarantined", "0"],
            ["unknown", "0"],
        ]
        assert output.splitlines()[-1].startswith("proven: ")

        command(process, "log", "rotate")
        (rotated,) = (tmp_path / "logs").glob("mainlog.ec-*")
        lines = rotated.read_text().splitlines()
        deleted = next(line for line in lines if f"@{sent[0]}@@D@" in line)
        doubled = next(line for line in lines if f"@{sent[1]}@@D@" in line)
        lines.remove(deleted)
        rotated.write_text("".join(f"{line}\n" for line in [*lines, doubled]))
        connection = apsw.Connection(str(tmp_path / "spool" / SHARD))
        connection.set_busy_timeout(5000)
        connection.execute(
            "UPDATE delivery SET data = 'x' WHERE row = (SELECT row FROM message WHERE batch_id = ?)", (held[0],)
        )
        connection.close()
        command(process, "domain", "resume", "held.example.com")
        process.wait(lambda: any(line[4] == "Q" for line in process.mainlog) and process.status()["queued"] == 0)

        code, output = audit(process)
        assert code == 1, output
        assert f"{sent[0]}-1  accepted, has no final line, and is not in the spool" in output
        assert f"{sent[1]}-1  has two D lines" in output
        assert f"{held[0]}-1  in quarantine" in output
        assert output.splitlines()[-1] == "disproved: 2 deliveries, named above"
        assert output.count(" has ") + output.count(" in quarantine") == 3
        told = account(process)
        assert {found["id"]: found["what"] for found in told["findings"]} == {
            f"{sent[0]}-1": "missing",
            f"{sent[1]}-1": "delivered twice",
            f"{held[0]}-1": "quarantined",
        }


class Load(threading.Thread):
    """Sends one message after another until it is told to stop."""

    def __init__(self, process: EngineProcess) -> None:
        super().__init__()
        self.process = process
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            recipients = [f"user{number}@sink.example.com" for number in range(20)]
            self.process.send(MAIL, *recipients, "user@held.example.com")


def test_nothing_that_is_under_way_is_a_false_alarm(tmp_path: Path) -> None:
    """Messages come and go, and the log is rotated and compressed, while it is audited."""
    logs = {"ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", "rotate": {"size": "64KB", "keep": "all"}}}}
    with engine(tmp_path, DOMAINS, **logs) as process:
        loads = [Load(process) for _ in range(3)]
        for load in loads:
            load.start()
        try:
            told = [account(process) for _ in range(4)]
        finally:
            for load in loads:
                load.stopping.set()
            for load in loads:
                load.join()
        assert [(each["verdict"], each["findings"]) for each in told] == [("proven", [])] * 4
        assert told[-1]["accepted"] > told[0]["accepted"] > 0
        assert len(list((tmp_path / "logs").glob("mainlog.ec-*"))) > 1
        last = account(process)
        assert (last["verdict"], last["accepted"], last["unknown"]) == ("proven", last["delivered"] + last["due"], 0)


def test_without_an_engine_the_log_alone_is_looked_at_and_said_to_prove_less(tmp_path: Path) -> None:
    process = EngineProcess(tmp_path, DOMAINS)
    process.start()
    process.send(MAIL, "user@sink.example.com")
    process.wait(lambda: any(line[4] == "D" for line in process.mainlog))
    process.stop()
    assert account(process)["verdict"] == "proven"  # everything ended
    process.start()
    held = process.send(MAIL, "user@held.example.com")
    process.wait(lambda: any(held in line for line in process.mainlog))
    process.kill()
    code, output = audit(process)
    assert code == 1
    assert "queued                  ?" in output
    assert "no engine answers there" in output
    assert f"{held}-1  accepted, and has no final line yet" in output
    assert output.splitlines()[-1].startswith("not proven: 1 delivery has not ended")
    process.start()
    assert account(process)["verdict"] == "proven"
    process.stop()


def test_what_keep_has_deleted_is_said_and_counted_apart(tmp_path: Path) -> None:
    logs = {"ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", "rotate": {"keep": 1, "compress": "none"}}}}
    with engine(tmp_path, DOMAINS, **logs) as process:
        process.send(MAIL, "user@held.example.com")
        for _ in range(3):
            process.send(MAIL, "user@sink.example.com")
            command(process, "log", "rotate")
        process.wait(lambda: len(list((tmp_path / "logs").glob("mainlog.ec-*"))) == 1)
        code, output = audit(process)
        assert code == 0, output
        assert "Not in the sums: 1 accepted before the log begins (delivered 0" in output
