"""The channel ``discard``: takes everything, sends nothing. The example for authors of channels.

A domain with ``delivery_method: discard`` and ``routes: ["discard://sink"]`` runs through every station
but the wire: for load tests, and for switching a domain off without a bounce. It takes the whole
message, whatever its parts, one delivery a recipient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcmt.channel.port import Finding, LoggerDefaults, Reading, Report, State, Target
from mcmt.clock import Clock
from mcmt.message.model import Delivery, Part
from mcmt.message.route import Route
from mcmt.message.status import Disposition, Outcome
from mcmt.options import OptionsModel

MEDIA_TYPES: frozenset[str] = frozenset()
SCHEMES = frozenset({"discard"})
LOGGER: LoggerDefaults | None = None


class Options(OptionsModel):
    """None of its own."""


def read(part: Part, recipient: str, context: Mapping[str, str], options: Options) -> Reading:  # noqa: ARG001 - the port's
    """One delivery, to the recipient itself."""
    return Reading(part, (Target(recipient, None),))


def check(options: Options, routes: Sequence[Route]) -> Sequence[Finding]:  # noqa: ARG001 - the port's
    """Nothing can be wrong."""
    return ()


class Sink:
    """A connection whose gateway is this line of code."""

    remote_address = ""

    def __init__(self, report: Report) -> None:
        self._report = report

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """Take all of them, delivered at once."""
        self._report.outcomes(
            [
                (delivery, Outcome(disposition=Disposition.DELIVERED, size=len(delivery.part.content)))
                for delivery in deliveries
            ]
        )
        return len(deliveries)

    async def aclose(self, drain: float) -> None:  # noqa: ARG002 - the port's
        """End; nothing is ever in flight."""
        self._report.closed("closed")


async def connect(route: Route, options: Options, report: Report, clock: Clock, state: State) -> Sink:  # noqa: ARG001 - the port's
    """Succeeds always."""
    return Sink(report)
