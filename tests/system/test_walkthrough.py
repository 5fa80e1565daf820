"""An operator's night, as docs/operations.md tells it: a route has died."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, mcmt_message
from tests.support.simulator_process import simulator

SHOP, NEWS = "shop.example.com", "news.example.com"
PAYLOAD = b'{"aps":{"alert":"Your parcel is here"}}'


class Operator:
    """Types commands, and reads what they print as a person does."""

    def __init__(self, process: EngineProcess) -> None:
        self._process = process

    def type(self, line: str, code: int = 0) -> str:
        done = subprocess.run(
            self._process.command(*shlex.split(line)[1:]), capture_output=True, text=True, timeout=60, check=False
        )
        print(f"$ {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def engine_ended(process: EngineProcess) -> Iterator[None]:
    """It does not outlive the block."""
    try:
        yield
    finally:
        if process.process is not None:
            process.kill()


def submit(process: EngineProcess, domain: str, count: int, first: int = 0) -> list[str]:
    return [
        process.send(mcmt_message(PAYLOAD, token=f"{first + number:064x}"), f"user@{domain}") for number in range(count)
    ]


def test_a_route_that_dies_is_diagnosed_suspended_mended_released_and_audited(tmp_path: Path) -> None:
    """Nothing is lost or doubled, the other domain is not touched, and each step is told by the one before it."""
    with simulator(tmp_path / "gateway") as gateway, simulator(tmp_path / "healthy") as healthy:
        old_route = gateway.stanza["routes"][0]
        process = EngineProcess(tmp_path / "engine", {SHOP: gateway.stanza, NEWS: healthy.stanza}, workers=2)
        process.start()
        before = submit(process, SHOP, 10)
        process.wait_for("D", 10)
    with engine_ended(process), simulator(tmp_path / "healthy", port=healthy.port):
        operator = Operator(process)
        waiting = submit(process, SHOP, 20, first=10)
        news = submit(process, NEWS, 20)
        process.wait_for("D", 30)
        process.wait(lambda: [one.state for one in process.domains() if one.domain == SHOP] == ["down"])

        # What is wrong, where, and how much waits?
        assert re.search(rf"{SHOP} +down +0 +0 +\d+ +20 ", operator.type("mcmt status"))
        assert f"down: 127.0.0.1:{gateway.port}: Connection refused" in operator.type(f"mcmt domain show {SHOP}")
        listed = operator.type(f"mcmt queue list --domain {SHOP}")
        assert all(f"{one}-1" in listed for one in waiting)
        assert NEWS not in listed
        assert "down apn://" in operator.type(f"mcmt log summary --domain {SHOP}")
        assert f"@{waiting[0]}@" in operator.type(f"mcmt log grep --id {waiting[0]}")

        # No attempts until it is mended; what comes is kept.
        operator.type(f'mcmt domain suspend {SHOP} --reason "gateway is gone, provider is told"')
        later = submit(process, SHOP, 5, first=30)
        assert "gateway is gone, provider is told" in operator.type("mcmt domain list")

        # The provider names another gateway.
        with simulator(tmp_path / "gateway") as mended:
            process.config.write_text(process.config.read_text().replace(old_route, mended.stanza["routes"][0]))
            assert "mcmt.yaml: good" in operator.type("mcmt check")
            assert f"domain.{SHOP}.routes: changed\n" in operator.type("mcmt reload --check")
            assert "was reloaded" in operator.type("mcmt reload")
            assert mended.received == [], "it is suspended still"

            # One is not wanted any more; then everything goes.
            operator.type(f'mcmt queue bounce {later[-1]}-1 --reason "cancelled by the customer" --yes')
            operator.type(f"mcmt domain resume {SHOP}")
            process.wait_for("D", 54)
            assert operator.type(f"mcmt queue list --domain {SHOP}") == ""

            # Was anything lost?
            audit = operator.type("mcmt audit")
            assert re.search(r"accepted +55\n +delivered +54\n +failed +1\n +queued +0 ", audit)
            assert "proven" in audit
            assert process.stop() == 0
            kept = [*waiting, *later[:-1]]
            pushed = Counter(push["headers"]["apns-id"] for push in mended.received)
            assert pushed == Counter(uuid_of(one, 1) for one in kept)
    ends = Counter(line[2] for kind in "DP" for line in process.logged(kind))
    assert ends == Counter(f"{one}-1" for one in [*before, *waiting, *news, *later])
