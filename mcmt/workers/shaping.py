"""Who counts what shaping rules match is the supervisor (mcmt/engine/shaper.py): its side, and a worker's.

Rules: notices to a worker that is not there are not kept: it is told everything when it has begun.
"""

from __future__ import annotations

from mcmt.engine.rulings import Ruling, ShapedEngine
from mcmt.engine.shaper import Shaper
from mcmt.workers.bus import Bus
from mcmt.workers.remote import Reach
from mcmt.workers.rule_words import (
    FromSupervisor,
    FromWorker,
    RuleBegan,
    RuleCounts,
    RuleEnded,
    RuleMatched,
    RulesLifted,
    Succeeded,
)


class RemoteEngine:
    """``mcmt.engine.rulings.ShapedEngine``: the engine of a shard in a worker."""

    def __init__(self, shard: int, reach: Reach) -> None:
        self.shard = shard
        self._reach = reach

    def rule_began(self, ruling: Ruling, *, new: bool, tell: bool) -> None:
        """See ShapedEngine."""
        self._tell(RuleBegan(self.shard, ruling, new, tell))

    def rule_ended(self, ruling: Ruling, why: str, *, tell: bool) -> None:
        """See ShapedEngine."""
        self._tell(RuleEnded(self.shard, ruling, why, tell))

    def rule_counts(self, domain: str) -> None:
        """See ShapedEngine."""
        self._tell(RuleCounts(self.shard, domain))

    def _tell(self, notice: FromSupervisor) -> None:
        if (bus := self._reach()) is not None:
            bus.tell(notice)


class RemoteEngines:
    """The engines of all workers, for the one who counts."""

    def __init__(self, shaper: Shaper) -> None:
        self._shaper = shaper
        self._engines: dict[int, RemoteEngine] = {}

    def began(self, shard: int, reach: Reach) -> None:
        """The worker that serves the shard has begun."""
        engine = self._engines[shard] = RemoteEngine(shard, reach)
        self._shaper.join(engine)

    def ended(self, shard: int) -> None:
        """It has ended."""
        if (engine := self._engines.pop(shard, None)) is not None:
            self._shaper.leave(engine)

    def heard(self, notice: FromWorker) -> None:
        """What an engine tells."""
        match notice:
            case RuleMatched(shard=shard, domain=domain, rule=rule, count=count, answer=answer):
                if (engine := self._engines.get(shard)) is not None:
                    self._shaper.matched(engine, domain, rule, count, answer)
            case Succeeded(domain=domain):
                self._shaper.succeeded(domain)
            case RulesLifted(domain=domain):
                self._shaper.resumed(domain)


class RemoteShapings:
    """Those of a worker, one a shard."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_shard: dict[int, RemoteShaping] = {}

    def of(self, shard: int) -> RemoteShaping:
        """The one for the engine of *shard*."""
        return self._by_shard.setdefault(shard, RemoteShaping(shard, self._bus))

    def heard(self, notice: FromSupervisor) -> None:
        """What the one who counts tells the engine of a shard."""
        if (shaping := self._by_shard.get(notice.shard)) is not None:
            shaping.heard(notice)


class RemoteShaping:
    """``mcmt.engine.rulings.Shaping`` in a worker."""

    def __init__(self, shard: int, bus: Bus) -> None:
        self._shard = shard
        self._bus = bus
        self._engine: ShapedEngine | None = None

    def join(self, engine: ShapedEngine) -> None:
        """See Shaping. What is in force the supervisor tells when the worker has begun; until then the engine goes by
        what is kept."""
        self._engine = engine

    def leave(self, engine: ShapedEngine) -> None:  # noqa: ARG002 - the protocol's
        """See Shaping."""
        self._engine = None

    def matched(self, engine: ShapedEngine, domain: str, rule: str, count: int, answer: str) -> None:  # noqa: ARG002
        """See Shaping."""
        self._bus.tell(RuleMatched(self._shard, domain, rule, count, answer))

    def succeeded(self, domain: str) -> None:
        """See Shaping."""
        self._bus.tell(Succeeded(domain))

    def resumed(self, domain: str) -> None:
        """See Shaping."""
        self._bus.tell(RulesLifted(domain))

    def heard(self, notice: FromSupervisor) -> None:
        """What the one who counts tells."""
        if (engine := self._engine) is None:
            return
        match notice:
            case RuleBegan(ruling=ruling, new=new, tell=tell):
                engine.rule_began(ruling, new=new, tell=tell)
            case RuleEnded(ruling=ruling, why=why, tell=tell):
                engine.rule_ended(ruling, why, tell=tell)
            case RuleCounts(domain=domain):
                engine.rule_counts(domain)
