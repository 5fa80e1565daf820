"""A disk that runs full: clients are told to come again, deliveries go on, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import resource
import smtplib
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import Simulator, simulator

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MESSAGE = mcmt_message(b'{"aps":{}}')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_below_min_free_clients_are_told_to_come_again_while_deliveries_go_on(
    tmp_path: Path, gateway: Simulator
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        spool = {"path": str(disk / "spool"), "min_free": "16MB"}
        with engine(tmp_path / "engine", {DOMAIN: gateway.stanza}, spool=spool) as process:
            # Answered after a second: still to be delivered when the disk is already full.
            process.send(mcmt_message(b'{"aps":{}}', token="fa11100" + "0" * 57), USER)
            ballast = disk / "ballast"
            ballast.write_bytes(b"\0" * 50 * 1024**2)
            # A look at the disk holds for a tenth of a second (mcmt/spool/space.py).
            accepted = ["before"]

            def send_for_a_while() -> None:
                for _ in range(100):
                    accepted.append(process.send(MESSAGE, USER))  # noqa: PERF401 - those before the refusal count

            with pytest.raises(smtplib.SMTPResponseException, match=r"4\.3\.1") as refusal:
                send_for_a_while()
            assert refusal.value.smtp_code == 452
            process.wait_for("D", len(accepted))
            ballast.unlink()
            process.send(MESSAGE, USER)
            process.wait_for("D", len(accepted) + 1)
            assert [fields[4] for fields in process.mainlog if fields[4] == "J"] == ["J"]


def test_when_not_even_results_can_be_written_sending_pauses_and_goes_on_by_itself(
    tmp_path: Path, gateway: Simulator
) -> None:
    """Every write of the engine fails while pushes are on the wire; afterwards each is pushed once and logged once."""
    count = 300
    before = len(gateway.received)
    with engine(tmp_path, {DOMAIN: gateway.stanza}) as process:
        assert process.process is not None
        tokens = ",\r\n ".join(f"fa11100{number:057x}" for number in range(count))
        process.send(mcmt_message(b'{"aps":{}}', token=tokens), USER)
        process.wait(lambda: process.status()["domains"][0]["in_flight"] > 200)
        soft, hard = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        process.wait(lambda: "sending pauses" in process.diagnostics.read_text())
        assert refused(process) == 451
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        lines = process.wait_for("D", count)
        assert "sending goes on" in process.diagnostics.read_text()
    pushed = Counter(push["apns_id"] for push in gateway.received[before:])
    assert len(pushed) == count
    assert set(pushed.values()) == {1}
    assert Counter(line[10] for line in lines) == pushed


def refused(process: EngineProcess) -> int:
    with pytest.raises(smtplib.SMTPResponseException) as refusal:
        process.send(MESSAGE, USER)
    return refusal.value.smtp_code
