"""An engine under load that is killed again and again, and what four records say of it afterwards: the senders' own of
what got a 250, the gateway's of what it was pushed, the logs, and a webhook's.

Of all that is kept on disk for them the load has some: priorities, throttles, pushes that replace earlier ones, reports
of success and of delays, Idempotency-Keys.
"""

from __future__ import annotations

import random
import re
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
from tests.crash.sender import DOMAIN, REPLACING, SHARED, varied
from tests.crash.stage import Stage
from tests.support.http_api import TOKENS
from tests.support.peers import free_port
from tests.support.webhook_receiver import SECRET, Receiver

VICTIMS: Mapping[str, int] = {"everything": 3, "the supervisor": 2, "a worker": 3, "the power": 3, "a start": 1}
"""What is hit, and how often among all."""
ROTATE = {"rotate": {"size": "256KB", "keep": "all", "compress": "gzip"}}
LOGS: Mapping[str, Any] = {
    "apn_logger": {"apn_logger1": {"logfile": "logs/apnlog.ec", **ROTATE}},
    "ec_logger": {"ec_logger1": {"mainlog": "logs/mainlog.ec", **ROTATE}},
}
REPORTS = "example.com"
"""Where reports go, and end."""
_SUPERSEDED = re.compile(rb"superseded by ([0-9a-f]{24})")
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
    replaced: int
    """Of the deliveries: those that a newer one has ended."""
    lost: list[str]
    """Batch ids that got a 250, and were never pushed (nor replaced), or have no final line."""
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
            ("replaced", self.replaced, "by a newer push"),
            ("lost", len(self.lost), " ".join(self.lost[:5])),
            ("repeated", self.repeats, self._repeats()),
            ("other faults", len(self.faults), "; ".join(self.faults[:5])),
        ]
        lines = [f"  {name:<13} {number:>8}  {more}".rstrip() for name, number, more in rows]
        return "\n".join([f"seed {self.seed}", *lines, f"  mcmt audit: {self.audit}"])

    def _repeats(self) -> str:
        most = max((kill.repeated for kill in self.kills), default=0)
        return f"under their apns-id; most by one kill {most}, pushed {self.oldest:.2f} s before it or less"


def stage_for_kills(folder: Path, gateway: Gateway, shim: Path, receiver: Receiver) -> Stage:
    """The engine that ``run`` takes: on ports that stay, so that the applications find it again."""
    shaped = {**gateway.stanza, "outbound_throttle_messages": "150/s", "outbound_throttle_connections": "20/s"}
    others = {
        REPLACING: {**shaped, "replace_queued": True, "outbound_throttle_messages": "4/s"},
        REPORTS: {"delivery_method": "discard", "routes": ["discard://sink"]},
    }
    hook = {"url": receiver.url, "secret": SECRET, "events": ["delivered", "permanent"], "domains": [DOMAIN, REPLACING]}
    hook |= {"retry_interval": "100ms", "max_retry_interval": "500ms", "batch_wait": "100ms"}
    return Stage(
        folder,
        shaped,
        shim,
        others=others,
        delay_warning_time=1,
        esmtp_listener={"listen": {f"127.0.0.1:{free_port()}": {"mcmt_reception": "allow"}}},
        http_listener={"listen": {f"127.0.0.1:{free_port()}": {}}, "tokens": {"shop": TOKENS["shop"]}},
        webhook={"webhook1": hook},
        **LOGS,
    )


def run(
    stage: Stage,
    gateway: Gateway,
    receiver: Receiver,
    rounds: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Kill *rounds* times, let the engine finish, and compare. *say* is told of each kill."""
    draw = random.Random(seed)
    kills = []
    stage.start()
    with stage.load(pause=0.002, kind=varied):
        for number in range(rounds):
            (victim,) = draw.choices([*VICTIMS], [*VICTIMS.values()])
            time.sleep(draw.uniform(0.1, 1.0))  # the moment is what is tried
            kills.append(Kill(victim, [time.time()]))
            _hit(stage, kills[-1], draw)
            say(f"{number + 1:>4} of {rounds}: {victim}")
    stage.process.wait(lambda: _is_done(stage), 60)
    audit = stage.audit().splitlines()[-1]
    stage.process.wait(lambda: not stage.process.status()["webhooks"][0]["events"], 60)
    assert stage.process.stop() == 0
    return _compare(stage, gateway.pushes(), receiver.taken, kills, seed, audit)


def _is_done(stage: Stage) -> bool:
    status = stage.process.status()
    return not (status["missing"] or status["queued"] or status["owed"])


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


def _compare(
    stage: Stage, pushes: list[Push], told: list[dict[str, Any]], kills: list[Kill], seed: int, audit: str
) -> Result:
    times: dict[str, list[float]] = {}
    tokens: dict[str, str] = {}
    faults = []
    for push in pushes:
        times.setdefault(push.apns_id, []).append(push.time)
        is_shared = SHARED <= int(push.token, 16) < SHARED + 2**16
        if tokens.setdefault(push.token, push.apns_id) != push.apns_id and not is_shared:
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
    faults += [f"{kill.repeated} repeated by one kill" for kill in kills if kill.repeated > 2 * CONNECTIONS * STREAMS]
    logs = stage.process.folder / "logs"
    finals, main = _finals(logs / "apnlog.ec", 1, 2), _finals(logs / "mainlog.ec", 4, 1)
    for lines in (finals, main):
        faults += [f"{id_} has {len(found)} final lines" for id_, found in lines.items() if len(found) != 1]
    replaced = {id_: match[1].decode() for id_, found in finals.items() if (match := _SUPERSEDED.search(found[0]))}
    faults += [f"{id_} failed" for id_, found in finals.items() if b"@P@" in found[0] and id_ not in replaced]
    # Whoever replaced another is on disk with that, also without a 250: so at the end of each chain something was sent.
    faults += [f"{id_} was replaced by {by}, which is lost" for id_, by in replaced.items() if f"{by}-1" not in finals]
    faults += _faults_of_reports(logs / "mainlog.ec", stage.wanting, replaced)
    faults += _faults_of_webhook(told, finals)
    lost = [
        one
        for one in stage.accepted
        if f"{one}-1" not in finals or (f"{one}-1" not in replaced and uuid_of(one, 1) not in times)
    ]
    repeats = sum(kill.repeated for kill in kills)
    accepted = len(stage.accepted)
    return Result(seed, kills, accepted, len(times), len(replaced), lost, faults, repeats, oldest, audit)


def _faults_of_reports(log: Path, wanting: list[str], replaced: Mapping[str, str]) -> list[str]:
    """Whoever wanted to hear of success had one report, unless a newer push replaced it; nobody had two."""
    fields = (line.split(b"@") for lines in LogReader(log).blocks() for line in lines)
    reports = Counter(
        line[3].decode() for line in fields if len(line) > 6 and line[4] == b"R" and line[6] == REPORTS.encode()
    )
    faults = [f"{reports[one]} reports of {one}" for one in reports if reports[one] != 1]
    return faults + [f"no report of {one}" for one in wanting if not (reports[one] or f"{one}-1" in replaced)]


def _faults_of_webhook(told: list[dict[str, Any]], finals: Mapping[str, list[bytes]]) -> list[str]:
    """Every final line was told, under one id however often."""
    by_delivery: dict[str, set[str]] = {}
    for event in told:
        by_delivery.setdefault(event["id"], set()).add(event["event_id"])
    faults = [f"{id_} was told under {len(ids)} ids" for id_, ids in by_delivery.items() if len(ids) != 1]
    return faults + [f"no webhook was told of {id_}" for id_ in finals if id_ not in by_delivery]


def _finals(log: Path, kind: int, id_: int) -> dict[str, list[bytes]]:
    """The final lines of each delivery, in all files of a log; *kind* and *id_* are their fields' places."""
    found: dict[str, list[bytes]] = {}
    for lines in LogReader(log).blocks():
        for line in lines:
            fields = line.split(b"@")
            if len(fields) > 4 and fields[kind] in (b"D", b"P"):
                found.setdefault(fields[id_].decode(), []).append(line)
    return found
