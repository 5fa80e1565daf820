"""What the gateways' answers mean for one domain: settle what was tried, keep what was not, doubt what is suspect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.config.settings import DomainSettings
from mcmt.engine.mismatch_guard import THRESHOLD, Answered, MismatchGuard
from mcmt.engine.route_health import RouteHealth
from mcmt.engine.settler import Settled
from mcmt.engine.shared import Shared
from mcmt.engine.verdict import KEPT, judge
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome

_ALL_WELL = {Disposition.DELIVERED}
_PROVES_NOTHING = KEPT | {Disposition.AMBIGUOUS}


class Answers:
    """The judge of one domain's outcomes."""

    def __init__(
        self, domain: str, settings: DomainSettings, shared: Shared, guard: MismatchGuard, settled: Settled
    ) -> None:
        self._domain = domain
        self.settings = settings
        self._shared = shared
        self._settled = settled
        self.guard = guard
        self.not_before: Callable[[], float] = lambda: 0.0
        """The earliest time of another attempt, whatever the schedule says; seconds since the epoch."""
        self.failing = False
        """A rule in force fails what is answered as it says."""

    def take(self, health: RouteHealth, batch: Sequence[Answered]) -> tuple[list[Delivery], list[Delivery]]:
        """Judge a burst of outcomes, and tell the route's health of it.

        Returns the deliveries that stay due: those for the front of the line, and those for its end.
        """
        tried: list[Answered] = []
        kept: list[Answered] = []
        suspects: list[Answered] = []
        dispositions = set()
        for answered in batch:
            outcome = answered[1]
            dispositions.add(outcome.disposition)
            if outcome.disposition in KEPT:
                kept.append(answered)
            elif outcome.suspect:
                suspects.append(answered)
            else:
                tried.append(answered)
        if Disposition.DELIVERED in dispositions:
            self.guard.accepted()
            if self.settings.connection_ramp_up:
                health.delivered += sum(one.disposition is Disposition.DELIVERED for _, one in batch)
        if (book := self.settings.rules) and (dispositions != _ALL_WELL or self._shared.rules.awaits(self._domain)):
            self._shared.rules.saw(self._domain, book, batch)
        given_back: Sequence[Answered] = ()
        if suspects or self.guard.held:
            believed, given_back = self.guard.examine(suspects)
            tried += believed
        stays = kept
        if self.failing:
            stays, tried = self._fail(kept, tried)
        self._judge(tried)
        worked = not self.guard.tripped and bool(dispositions - _PROVES_NOTHING)
        if worked:
            health.answered()
        if given_back:
            health.faulted(self._mismatch(given_back[0][1]))
        elif tried and not worked and health.probing:
            # The probe proved nothing: another one, but not before its time.
            health.faulted(_reason(tried[-1][1]))
        if kept:
            self._tell(health, [outcome for _, outcome in kept], worked=worked)
        # At the end, so that the next probe is another token.
        return [delivery for delivery, _ in stays], [delivery for delivery, _ in given_back]

    def _fail(self, kept: list[Answered], tried: list[Answered]) -> tuple[list[Answered], list[Answered]]:
        """What stays of *kept*, and what is to be judged, where a rule in force fails what is answered so."""
        watch, book = self._shared.rules, self.settings.rules
        ends = [(answered, watch.ended(self._domain, book, answered)) for answered in kept]
        judged = [watch.ended(self._domain, book, answered) or answered for answered in tried]
        return [answered for answered, end in ends if end is None], [*judged, *(end for _, end in ends if end)]

    def believe_overdue(self) -> None:
        """Settle suspect answers that were held long enough."""
        self._judge(self.guard.overdue())

    def _judge(self, tried: Sequence[Answered]) -> None:
        if not tried:
            return
        now, due_from = self._shared.clock.time(), self._shared.steady.now()
        not_before = self.not_before()
        settings, random = self.settings, self._shared.random
        verdicts = [
            judge(delivery, outcome, settings, now, random, not_before, due_from) for delivery, outcome in tried
        ]
        self._shared.settler.add(verdicts, self._settled)

    @staticmethod
    def _tell(health: RouteHealth, kept: Sequence[Outcome], *, worked: bool) -> None:
        faults = [outcome for outcome in kept if outcome.disposition is Disposition.ROUTE_FAULT]
        refusals = [outcome for outcome in kept if outcome.disposition is Disposition.REFUSED]
        wait = max((outcome.retry_after for outcome in refusals), default=0.0)
        if refusals and (wait or not worked):
            health.refused(_reason(refusals[0]), wait)
        if faults:
            health.faulted(_reason(faults[0]))

    def _mismatch(self, outcome: Outcome) -> str:
        return (
            f"{_reason(outcome)} for every one of {THRESHOLD} or more device tokens, and none accepted: "
            "the credential or the route may be for the other environment or another app; mend that, or if the "
            f"tokens are dead: mcmt domain resume {self._domain} --trust"
        )


def _reason(outcome: Outcome) -> str:
    return f"{outcome.code} {outcome.text}".strip()
