"""What is said with the routes of one domain, and by clients that have mail for it, over all processes: ``mcmt trace``.

Rules: every process is asked again and again, and keeps what comes in between, which is bounded (mcmt/wire/trace.py):
whoever reads slowly is told how much was left out, and keeps nothing waiting. A process that is away is told, once, and
asked again. The watch ends with the iterator.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Protocol

from mcmt.control.protocol import Trace
from mcmt.control.station import Station
from mcmt.errors import ControlError
from mcmt.wire.trace import Line, Told, Watch

PAUSE: Final = 0.1
"""Seconds between two questions: so late a line may come, and with LINES of mcmt/wire/trace.py so many lines a second
are made at most, in each process."""
PATIENCE: Final = 5.0
"""Seconds that a process may take to answer before it is told that it does not."""


class Processes(Protocol):
    """Where the stations are."""

    @property
    def stations(self) -> Sequence[Station]:
        """Those that can be asked."""

    @property
    def missing(self) -> Sequence[str]:
        """Why others are not among them at the moment."""


class Tracer:
    """Begins watches, each with a number of its own."""

    def __init__(self, processes: Processes, time: Callable[[], float]) -> None:
        """*time*: seconds since the epoch."""
        self._processes = processes
        self._time = time
        self._numbers = itertools.count(1)

    async def trace(self, request: Trace) -> AsyncGenerator[Sequence[Line], None]:
        """Lines in the order of their time, as far as they came together; the first part when every process watches."""
        watch = Watch(next(self._numbers), request.domain, request.bodies, request.tokens)
        processes, before, first = self._processes, frozenset[str](), True
        try:
            while True:
                answers = await asyncio.gather(*(self._ask(station, watch) for station in processes.stations))
                away = {*processes.missing, *(answer for answer in answers if isinstance(answer, str))}
                lines = [line for answer in answers if not isinstance(answer, str) for line in self._lines(answer)]
                lines.sort(key=lambda line: line.time)
                lines += [self._event("away", text) for text in sorted(away - before)]
                if before and not away:
                    lines.append(self._event("back", "every process is asked again"))
                elif not first and any(not isinstance(answer, str) and answer.begun for answer in answers):
                    lines.append(self._event("gap", "nothing was read for so long that what was said is not counted"))
                before, first = frozenset(away), False
                yield lines
                await asyncio.sleep(PAUSE)
        finally:
            ends = [station.end_trace(watch.number) for station in processes.stations]
            await asyncio.gather(*ends, return_exceptions=True)

    async def _ask(self, station: Station, watch: Watch) -> Told | str:
        """What it has, or why it has nothing."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await station.fetch_trace(watch)
        except ControlError as error:
            return str(error)
        except TimeoutError:
            return f"the process of shard {station.shard} does not answer"

    def _lines(self, told: Told) -> Sequence[Line]:
        if not told.left_out:
            return told.lines
        last = told.lines[-1].time if told.lines else self._time()
        return [*told.lines, Line(time=last, connection="", way="event", what="left out", left_out=told.left_out)]

    def _event(self, what: str, text: str) -> Line:
        return Line(time=self._time(), connection="", way="event", what=what, text=text)
