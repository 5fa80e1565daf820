"""Loggers come and go with a reload while the engine is under load: each line once, with one process and with two."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.engine_process import EngineProcess, engine
from tests.system.test_reload import DOMAIN, USER, WORKERS, discarding, edit, reload

SENDERS = 4


def records(process: EngineProcess, name: str) -> Counter[str]:
    """Receptions and deliveries that a main log tells of, by batch."""
    lines = process.fields(process.folder / "logs" / name)
    return Counter(f"{line[4]} {line[2].partition('-')[0]}" for line in lines if line[4] in "RD")


@WORKERS
def test_a_logger_that_comes_under_load_has_each_later_line_once_and_the_others_lose_none(
    tmp_path: Path, workers: int
) -> None:
    with engine(tmp_path, {DOMAIN: discarding()}, workers=workers) as process:
        over = threading.Event()
        accepted: list[str] = []

        def submit() -> None:
            while not over.wait(0.002):
                accepted.append(process.send(b"Subject: one of many\r\n\r\nhere\r\n", USER))

        with ThreadPoolExecutor(SENDERS) as senders:
            load = [senders.submit(submit) for _ in range(SENDERS)]
            try:
                process.wait(lambda: len(accepted) > 50)
                logs = {"ec_logger1": {"mainlog": "logs/mainlog.ec"}, "second": {"mainlog": "logs/second.ec"}}
                edit(process, lambda document: document.update(ec_logger=logs))
                assert "ec_logger.second: changed" in reload(process).stdout
                first = len(accepted) + SENDERS  # each may have one more answered that was sent before
                process.wait(lambda: len(accepted) > first + 200)
                last = len(accepted)
                process.wait(lambda: records(process, "second.ec")[f"D {accepted[last - 1]}"] > 0)
                edit(process, lambda document: document["ec_logger"].pop("second"))
                assert "ec_logger.second: changed" in reload(process).stdout
                size = (tmp_path / "logs" / "second.ec").stat().st_size
                rest = len(accepted)
                process.wait(lambda: len(accepted) > rest + 50)
            finally:
                over.set()
            for one in load:
                one.result(60)
        everything = Counter(f"{kind} {batch}" for batch in accepted for kind in "RD")
        process.wait(lambda: records(process, "mainlog.ec") == everything)
        assert (tmp_path / "logs" / "second.ec").stat().st_size == size
        second = records(process, "second.ec")
        assert set(second.values()) == {1}
        assert second <= everything
        # Of those that were answered just now, the delivery may stand behind.
        told = {f"{kind} {batch}" for batch in accepted[first : last - SENDERS] for kind in "RD"}
        missing = told - second.keys()
        assert not missing
        process.kill()
        process.start()
        process.send(b"Subject: again\r\n\r\nhere\r\n", USER)
        process.wait(lambda: sum(records(process, "mainlog.ec").values()) == 2 * len(accepted) + 2)


@WORKERS
def test_a_log_that_cannot_be_written_changes_nothing_and_says_why(tmp_path: Path, workers: int) -> None:
    with engine(tmp_path, {DOMAIN: discarding()}, workers=workers) as process:
        (tmp_path / "logs" / "folder.ec").mkdir()
        edit(process, lambda document: document["apn_logger"]["apn_logger1"].update(logfile="logs/folder.ec"))
        edit(process, lambda document: document["domain"].update({"new.example.com": discarding()}))
        told = reload(process, code=1)
        assert "folder.ec: Is a directory" in told.stderr
        assert "nothing was changed" in told.stderr
        refused = subprocess.run(
            process.command("domain", "show", "new.example.com"), capture_output=True, timeout=60, check=False
        )
        assert refused.returncode != 0
        process.send(b"Subject: still\r\n\r\nhere\r\n", USER)
