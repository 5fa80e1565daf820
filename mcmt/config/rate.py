"""A rate: so many in a period, as a throttle's option says it.

Momentum's form is ``N/PERIOD``, the period in seconds, and ``N`` alone is a second's; a word in place of the seconds
is the unit. No limit is None.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

RATE_TEXT: Final = r"([0-9]{1,9})(?:\s*/\s*(?=\S)([0-9]{1,9}(?:\.[0-9]{1,3})?)?\s*(s|sec|m|min|h|hr|hour|d|day)?)?"
_read: Final = re.compile(RATE_TEXT).fullmatch
_SECONDS: Final = {
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_EXPECTED: Final = "expected a rate such as 100/s, 5000/min or 100/60 (seconds); 0 is no limit"
_FASTEST: Final = 10_000_000
"""A second: past it a limit is none."""
_LONGEST: Final = 366 * 86400.0


class Rate(msgspec.Struct, frozen=True):
    """*count* in *period* seconds."""

    count: int
    period: float = 1.0

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.count / self.period

    def __str__(self) -> str:
        return f"{self.count}/{self.period:g}"


def parse_rate(value: object) -> Rate | None:
    """The rate that *value* means; None: no limit. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_EXPECTED)
    match = _read(str(value).strip().lower())
    if match is None:
        raise ValueError(_EXPECTED)
    count, period, unit = match.groups()
    if int(count) == 0:
        return None
    rate = Rate(int(count), float(period or 1) * _SECONDS[unit or "s"])
    if not 0 < rate.period <= _LONGEST:
        raise ValueError("the period of a rate is more than 0 and at most a year")
    if rate.per_second > _FASTEST:
        raise ValueError(f"a rate is at most {_FASTEST} a second; without the option there is no limit")
    return rate
