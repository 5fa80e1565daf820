"""An engine under load that is killed again and again, and what three records say of it afterwards: the senders' own of
what got a 250, the gateway's of what it was pushed, and the logs.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from mcmt.eventlog.readback import LogReader
from mcmt.message.identity import uuid_of
from tests.crash.gateway import CONNECTIONS, STREAMS, Gateway, Push
from tests.crash.stage import Stage
from tests.support.peers import free_port

VICTIMS: Mapping[str, int] = {"everything": 3, "the supervisor": 2, "a worker": 3, "the power": 3, "a start": 1}
"""What is hit, and how often among all."""
ROTATE = {"rotate": {"size": "256KB", "keep": "all", "compress": "gzip"}}
LOGS: Mapping[str, Any] = {
    "apn_logger": {"apn_logger1": {"logfile": "logs/apnlog.ec", **ROTATE}},
    "ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", **ROTATE}},
}
SETTLED = 3.0
"""Seconds after its answer by which a push is settled on disk, on a busy machine."""


class Kill(msgspec.Struct):
    """One of them."""

    victim: str
    times: list[float]
    """When: a start is killed after whatever ran before it, so it has two."""
    repeated: int = 0
    """Pushes that came again after it."""


class Result(msgspec.Struct):
    """What the records say together."""

    seed: int
    kills: list[Kill]
    accepted: int
    pushed: int
    """Deliveries that the gateway saw."""
    lost: list[str]
    """Batch ids that got a 250, and were never pushed or have no final line."""
    faults: list[str]
    """Lines that stand twice, repeats that no kill explains or that have another apns-id."""
    repeats: int
    oldest: float
    """Seconds, at most, from a push that came again to the kill that made it."""
    audit: str

    def __str__(self) -> str:
        victims = Counter(kill.victim for kill in self.kills)
        rows = [
            ("kills", len(self.kills), ", ".join(f"{victim} {count}" for victim, count in victims.most_common())),
            ("got a 250", self.accepted, ""),
            ("delivered", self.pushed, "as the gateway saw it; some without a 250, which the kill took"),
            ("lost", len(self.lost), " ".join(self.lost[:5])),
            ("repeated", self.repeats, self._repeats()),
            ("other faults", len(self.faults), "; ".join(self.faults[:5])),
        ]
        lines = [f"  {name:<13} {number:>8}  {more}".rstrip() for name, number, more in rows]
        return "\n".join([f"seed {self.seed}", *lines, f"  mcmt audit: {self.audit}"])

    def _repeats(self) -> str:
        most = max((kill.repeated for kill in self.kills), default=0)
        return f"under their apns-id; most by one kill {most}, pushed {self.oldest:.2f} s before it or less"


def stage_for_kills(folder: Path, gateway: Gateway, shim: Path) -> Stage:
    """The engine that ``run`` takes: on a port that stays, so that the applications find it again."""
    listen = {"listen": {f"127.0.0.1:{free_port()}": {"mcmt_reception": "allow"}}}
    return Stage(folder, gateway.stanza, shim, esmtp_listener=listen, **LOGS)


def run(stage: Stage, gateway: Gateway, rounds: int, seed: int, say: Callable[[str], None] = lambda _: None) -> Result:
    """Kill *rounds* times, let the engine finish, and compare. *say* is told of each kill."""
    draw = random.Random(seed)
    kills = []
    stage.start()
    with stage.load(pause=0.002):
        for number in range(rounds):
            (victim,) = draw.choices([*VICTIMS], [*VICTIMS.values()])
            time.sleep(draw.uniform(0.1, 1.0))  # the moment is what is tried
            kills.append(Kill(victim, [time.time()]))
            _hit(stage, kills[-1], draw)
            say(f"{number + 1:>4} of {rounds}: {victim}")
    stage.process.wait(lambda: stage.process.status()["queued"] == 0, 60)
    audit = stage.audit().splitlines()[-1]
    assert stage.process.stop() == 0
    return _compare(stage, gateway.pushes(), kills, seed, audit)


def _hit(stage: Stage, kill: Kill, draw: random.Random) -> None:
    victim = kill.victim
    if victim == "a worker":
        if workers := stage.workers():
            stage.kill_one(draw.choice(workers))
        return
    if victim == "the power":
        stage.lose_power(draw)
    elif victim == "the supervisor":
        assert stage.process.process is not None
        stage.kill_one(stage.process.process.pid)
    else:
        stage.kill()
        if victim == "a start":
            stage.process.launch(**stage.options())
            time.sleep(draw.uniform(0.0, 1.0))
            # It may have begun to send.
            kill.times.append(time.time())
            stage.kill()
    stage.start()


def _compare(stage: Stage, pushes: list[Push], kills: list[Kill], seed: int, audit: str) -> Result:
    times: dict[str, list[float]] = {}
    tokens: dict[str, str] = {}
    faults = []
    for push in pushes:
        times.setdefault(push.apns_id, []).append(push.time)
        if tokens.setdefault(push.token, push.apns_id) != push.apns_id:
            faults.append(f"{push.token[-8:]} was pushed under two apns-ids")
    oldest = 0.0
    moments_of_kills = [(kill, moment) for kill in kills for moment in kill.times]
    for apns_id, moments in times.items():
        for first, again in pairwise(moments):
            by, moment = next(
                (one for one in moments_of_kills if first <= one[1] + 0.1 and one[1] <= again), (None, 0.0)
            )
            if by is None or moment - first > SETTLED:
                faults.append(f"{apns_id} was repeated by no kill")
            else:
                by.repeated += 1
                oldest = max(oldest, moment - first)
    faults += [f"{kill.repeated} repeated by one kill" for kill in kills if kill.repeated > CONNECTIONS * STREAMS]
    finals = _finals(stage.process.folder / "logs" / "apnlog.ec", 1, 2)
    for lines in (finals, _finals(stage.process.folder / "logs" / "mainlog.ec", 4, 1)):
        faults += [f"{id_} has {count} final lines" for id_, count in lines.items() if count != 1]
    lost = [one for one in stage.accepted if uuid_of(one, 1) not in times or f"{one}-1" not in finals]
    repeats = sum(kill.repeated for kill in kills)
    return Result(seed, kills, len(stage.accepted), len(times), lost, faults, repeats, oldest, audit)


def _finals(log: Path, kind: int, id_: int) -> Counter[str]:
    """How many final lines each delivery has, in all files of a log; *kind* and *id_* are their fields' places."""
    fields = (line.split(b"@") for lines in LogReader(log).blocks() for line in lines)
    return Counter(line[id_].decode() for line in fields if len(line) > 4 and line[kind] in (b"D", b"P"))
