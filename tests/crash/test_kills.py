"""kill -9 and power loss under load, again and again: nothing that got a 250 is lost, and each has one final line."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.gateway import gateway
from tests.crash.kills import run, stage_for_kills
from tests.support.tls import Certificates
from tests.support.webhook_receiver import receiver

ROUNDS = 8


def test_killed_again_and_again_under_load_nothing_is_lost_and_repeats_are_what_was_in_flight(
    tmp_path: Path, shim: Path, certificates: Certificates
) -> None:
    with gateway(tmp_path / "gateway", certificates) as peer, receiver() as hook:
        stage = stage_for_kills(tmp_path / "engine", peer, shim, hook)
        result = run(stage, peer, hook, ROUNDS, random.randrange(2**32))
    print(result)
    assert result.accepted > 100, result
    assert result.replaced > 1, result
    assert not result.lost, result
    assert not result.faults, result
    assert result.audit.startswith("proven: "), result
