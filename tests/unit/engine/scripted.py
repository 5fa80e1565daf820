"""A channel whose gateway follows a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcmt.channel.port import Finding, LoggerDefaults, Reading, Report, State, Target
from mcmt.clock import Clock
from mcmt.message.model import Delivery, Part
from mcmt.message.route import Route
from mcmt.message.status import Disposition, Outcome
from mcmt.options import OptionsModel

DELIVERED = Outcome(disposition=Disposition.DELIVERED, code="200")


def transient(reason: str = "InternalServerError") -> Outcome:
    return Outcome(disposition=Disposition.TRANSIENT, code="500", text=reason)


class ScriptedConnection:
    remote_address = "127.0.0.1"

    def __init__(self, gateway: ScriptedGateway, report: Report) -> None:
        self.gateway = gateway
        self.report = report
        self.owed: list[Delivery] = []
        self.taken = 0
        self.leaving = False
        self.ended = False

    def send(self, deliveries: Sequence[Delivery]) -> int:
        assert not self.ended
        if self.leaving:
            return 0
        room = self.gateway.room - len(self.owed)
        took = list(deliveries[: max(0, room)])
        self.owed += took
        self.taken += len(took)
        self.gateway.sent += took
        self.gateway.peak_in_flight = max(self.gateway.peak_in_flight, len(self.owed))
        if took and self.gateway.delay is not None:
            asyncio.get_running_loop().call_later(self.gateway.delay, self.answer)
        return len(took)

    def answer(self, outcome: Outcome | None = None) -> None:
        """Answer everything owed: by the script, or all alike."""
        if self.ended:
            return
        owed, self.owed = self.owed, []
        if owed:
            self.report.outcomes([(delivery, outcome or self.gateway.script(delivery)) for delivery in owed])
        if self.leaving:
            self.end("closed")
        else:
            self.report.wake()

    def leave(self) -> None:
        """Take nothing more, as after a GOAWAY; what is owed may be answered yet."""
        self.leaving = True
        self.report.leaving()

    def end(self, reason: str) -> None:
        if not self.ended:
            self.ended = True
            self.gateway.open.remove(self)
            self.report.closed(reason)

    async def aclose(self, drain: float) -> None:
        self.leaving = True
        deadline = time.monotonic() + drain
        while self.owed and not self.ended and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if not self.ended:
            self.answer(Outcome(disposition=Disposition.AMBIGUOUS, code="451", text="closed before the answer"))
            self.end("closed")


class ScriptedGateway:
    """The channel: everything that mcmt.channel.port.Channel asks for, with the script as attributes."""

    Options = OptionsModel
    MEDIA_TYPES = frozenset({"message/vnd.test"})
    SCHEMES = frozenset({"test"})
    LOGGER: LoggerDefaults | None = None

    def __init__(self) -> None:
        self.room = 1000
        self.delay: float | None = 0.0
        """Seconds until the answers; None: they come when the test calls answer."""
        self.script: Callable[[Delivery], Outcome] = lambda delivery: DELIVERED
        self.connect_error: BaseException | None = None
        self.connects_to: list[Route] = []
        self.sent: list[Delivery] = []
        self.open: list[ScriptedConnection] = []
        self.all: list[ScriptedConnection] = []
        self.peak = 0
        self.peak_in_flight = 0

    def read(self, part: Part, recipient: str, context: Mapping[str, str], options: Any) -> Reading:
        return Reading(part, (Target(recipient, None),))

    def check(self, options: Any, routes: Sequence[Route]) -> Sequence[Finding]:
        return ()

    async def connect(
        self, route: Route, options: Any, report: Report, clock: Clock, state: State
    ) -> ScriptedConnection:
        self.connects_to.append(route)
        if self.connect_error is not None:
            raise self.connect_error
        connection = ScriptedConnection(self, report)
        self.open.append(connection)
        self.all.append(connection)
        self.peak = max(self.peak, len(self.open))
        return connection
