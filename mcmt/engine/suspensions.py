"""Which domains an operator has suspended, and why; kept over restarts."""

from __future__ import annotations

import msgspec

from mcmt.channel.port import State

_KEY = "suspensions"


class Suspension(msgspec.Struct, frozen=True):
    """One domain that sends nothing because somebody said so."""

    reason: str
    since: float
    """Seconds since the epoch."""


class Suspensions:
    """The suspended domains, in the state store."""

    def __init__(self, state: State) -> None:
        self._state = state
        stored = state.get(_KEY)
        self._by_domain = msgspec.json.decode(stored, type=dict[str, Suspension]) if stored else {}

    def of(self, domain: str) -> Suspension | None:
        """The domain's suspension, if it is suspended."""
        return self._by_domain.get(domain)

    def add(self, domain: str, reason: str, now: float) -> None:
        """Suspend; on disk when this returns."""
        self._keep({**self._by_domain, domain: Suspension(reason, now)})

    def remove(self, domain: str) -> bool:
        """Resume; whether it was suspended."""
        if domain not in self._by_domain:
            return False
        self._keep({name: suspension for name, suspension in self._by_domain.items() if name != domain})
        return True

    def all(self) -> dict[str, Suspension]:
        """Every suspended domain."""
        return dict(self._by_domain)

    def _keep(self, by_domain: dict[str, Suspension]) -> None:
        # What cannot be written does not hold either: the operator was told that it failed.
        self._state.put(_KEY, msgspec.json.encode(by_domain))
        self._by_domain = by_domain
