"""Which domains an operator has suspended, and why; kept over restarts."""

from __future__ import annotations

import logging

import msgspec

from mcmt.channel.port import State
from mcmt.errors import SpoolError

log = logging.getLogger(__name__)

_KEY = "suspensions"


class Suspension(msgspec.Struct, frozen=True):
    """One domain that sends nothing because somebody said so."""

    reason: str
    since: float
    """Seconds since the epoch."""
    until: float = 0.0
    """When it ends by itself, seconds since the epoch; 0: never."""


class Suspensions:
    """The suspended domains, in the state store."""

    def __init__(self, state: State) -> None:
        self._state = state
        stored = state.get(_KEY)
        self._by_domain = msgspec.json.decode(stored, type=dict[str, Suspension]) if stored else {}

    def of(self, domain: str) -> Suspension | None:
        """The domain's suspension, if it is suspended."""
        return self._by_domain.get(domain)

    def add(self, domain: str, reason: str, now: float, until: float = 0.0) -> None:
        """Suspend; on disk when this returns."""
        self._keep({**self._by_domain, domain: Suspension(reason, now, until)})

    def remove(self, domain: str) -> bool:
        """Resume; whether it was suspended."""
        if domain not in self._by_domain:
            return False
        self._keep({name: suspension for name, suspension in self._by_domain.items() if name != domain})
        return True

    def over(self, now: float) -> list[tuple[str, bool]]:
        """The domains whose suspensions are over, which are none any more; and whether this engine is to tell of it.

        Every engine of the machine finds it out by itself; the one that takes it from the store tells.
        """
        if not any(0 < suspension.until <= now for suspension in self._by_domain.values()):
            return []
        ended = [name for name, suspension in self._by_domain.items() if 0 < suspension.until <= now]
        self._by_domain = {name: one for name, one in self._by_domain.items() if name not in ended}
        return [(name, self._take_out(name, now)) for name in ended]

    def _take_out(self, domain: str, now: float) -> bool:
        try:
            while (stored := self._state.get(_KEY)) is not None:
                kept = msgspec.json.decode(stored, type=dict[str, Suspension])
                if domain not in kept or not 0 < kept[domain].until <= now:
                    return False
                del kept[domain]
                if self._state.swap(_KEY, stored, msgspec.json.encode(kept)):
                    return True
        except SpoolError as error:
            # It is over all the same; the next start finds that out once more.
            log.error("the end of the suspension of %s cannot be kept: %s", domain, error)
        return False

    def all(self) -> dict[str, Suspension]:
        """Every suspended domain."""
        return dict(self._by_domain)

    def _keep(self, by_domain: dict[str, Suspension]) -> None:
        # What cannot be written does not hold either: the operator was told that it failed.
        self._state.put(_KEY, msgspec.json.encode(by_domain))
        self._by_domain = by_domain
