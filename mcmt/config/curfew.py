"""Curfews: times of the day at which a domain's deliveries wait.

A curfew begins when the clock of its time zone first shows ``start``, on one of its days, and ends when it shows
``end`` for the last time: what the clock shows twice, when daylight saving ends, is within it both times, and a time
that the clock leaves out, when it begins, is the moment at which it is left out. An end that is not after the start is
on the next day.

Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT: Final = 24 * 60
"""The last minute of a day, which is the first of the next."""
_FAR: Final = 8 * 86400.0
"""Seconds past which curfews that follow upon each other are taken to have no end."""


class Curfew(msgspec.Struct, frozen=True):
    """One time of the day."""

    start: int
    """Minutes since midnight, by the clock on the wall."""
    end: int
    time_zone: str
    days: tuple[str, ...] = DAYS
    """On which it begins."""
    exempt: Literal["none", "high"] = "none"
    """The priority that it lets pass."""

    def holds_until(self, now: float) -> float | None:
        """When it ends, seconds since the epoch; None: it does not hold at *now*."""
        zone = ZoneInfo(self.time_zone)  # zoneinfo keeps those that were asked for
        today = datetime.fromtimestamp(now, zone).date()
        for day in (today, today - timedelta(days=1)):
            if DAYS[day.weekday()] in self.days and _instants(day, self.start, zone)[0] <= now:
                end = _instants(day if self.end > self.start else day + timedelta(days=1), self.end, zone)[1]
                if now < end:
                    return end
        return None

    def __str__(self) -> str:
        days = "" if self.days == DAYS else f" {','.join(self.days)}"
        but = f" but {self.exempt}" if self.exempt != "none" else ""
        return f"{clock_time(self.start)}-{clock_time(self.end)} {self.time_zone}{days}{but}"


class Quiet(NamedTuple):
    """Curfews hold."""

    until: float
    """Seconds since the epoch."""
    time_zone: str
    exempt: bool
    """What is of high priority passes, as far as those say that hold now."""

    def __str__(self) -> str:
        local = datetime.fromtimestamp(self.until, ZoneInfo(self.time_zone))
        return f"until {local:%Y-%m-%d %H:%M} {self.time_zone}{', but for high priority' if self.exempt else ''}"


def quiet(curfews: Sequence[Curfew], now: float) -> Quiet | None:
    """Whether one of *curfews* holds at *now*, and when the last of those ends that follow upon it; None: none does."""
    found: Quiet | None = None
    moment = now
    while moment - now < _FAR:
        ends = [(end, one) for one in curfews if (end := one.holds_until(moment)) is not None]
        if not ends:
            break
        end, last = max(ends, key=itemgetter(0))
        exempt = all(one.exempt == "high" for _, one in ends) if found is None else found.exempt
        found = Quiet(end, last.time_zone, exempt)
        moment = found.until
    return found


def endless(curfews: Sequence[Curfew]) -> bool:
    """Whether they leave no time of the week."""
    some_day = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    found = quiet(curfews, some_day)
    return found is not None and found.until - some_day >= _FAR


def clock_time(minutes: int) -> str:
    """As a clock shows it."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _instants(day: date, minutes: int, zone: ZoneInfo) -> tuple[float, float]:
    """When a clock shows that time of *day*, for the first and for the last time: PEP 495's fold."""
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - of no zone yet
    first, last = (shown.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if first <= last:
        return first, last
    # It is left out. The two are by the offset before and the one after: the clock is put on between them.
    before, after = int(last), int(first)
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return float(after), float(after)
