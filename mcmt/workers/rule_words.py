"""What supervisor and workers say to each other of shaping rules (mcmt/engine/rulings.py). Notices all."""

from __future__ import annotations

import msgspec

from mcmt.engine.rulings import Ruling


class RuleMatched(msgspec.Struct, frozen=True, tag="rule matched"):
    """To the supervisor: so many answers have matched a rule in the engine of that shard."""

    shard: int
    domain: str
    rule: str
    count: int
    answer: str


class Succeeded(msgspec.Struct, frozen=True, tag="succeeded"):
    """To the supervisor: a delivery was accepted, after RuleCounts."""

    domain: str


class RulesLifted(msgspec.Struct, frozen=True, tag="rules lifted"):
    """To the supervisor: an operator has resumed the domain."""

    domain: str


class RuleBegan(msgspec.Struct, frozen=True, tag="rule began"):
    """To a worker: a rule is in force, for the engine of that shard."""

    shard: int
    ruling: Ruling
    new: bool
    tell: bool


class RuleEnded(msgspec.Struct, frozen=True, tag="rule ended"):
    """To a worker: a rule is in force no more."""

    shard: int
    ruling: Ruling
    why: str
    tell: bool


class RuleCounts(msgspec.Struct, frozen=True, tag="rule counts"):
    """To a worker: the next success in the domain is to be told."""

    shard: int
    domain: str


FromSupervisor = RuleBegan | RuleEnded | RuleCounts
FromWorker = RuleMatched | Succeeded | RulesLifted
