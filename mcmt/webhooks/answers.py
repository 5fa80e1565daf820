"""What an answer to a request means.

| answer | is | and |
|---|---|---|
| 2xx | taken | the next batch |
| 410 | off | nothing more is sent until a reload or a restart |
| 413, of several events | smaller | sent again at once, half as many, and no more than that from then on |
| any other, and none | later | sent again, later and later; not before ``Retry-After`` |

Redirects are not followed: a 3xx is sent again to the same URL. Nothing is skipped: a receiver that refuses today may
have been mended tomorrow, and what it cannot take until then goes when the queue is full.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum

import msgspec

LONGEST_PAUSE = 3600.0
"""Seconds of a ``Retry-After`` that are waited at most."""


class Answer(msgspec.Struct, frozen=True):
    """To one request."""

    status: int
    """0: there was none."""
    text: str
    """What is told of it: the status, or why there was none. Nothing of what the receiver wrote."""
    retry_after: float = 0.0
    """Seconds."""


class Verdict(Enum):
    """What comes of it."""

    TAKEN = "taken"
    OFF = "off"
    SMALLER = "smaller"
    LATER = "later"


_BY_STATUS = {410: Verdict.OFF, 413: Verdict.SMALLER}


def judge(status: int) -> Verdict:
    """The verdict on a *status*; 0: no answer."""
    return Verdict.TAKEN if 200 <= status < 300 else _BY_STATUS.get(status, Verdict.LATER)


def retry_after(value: str, now: float) -> float:
    """Seconds that a ``Retry-After`` asks for (RFC 9110 10.2.3), LONGEST_PAUSE at most; 0 where it cannot be read."""
    try:
        asked = float(int(value)) if value.isascii() and value.isdigit() else _date(value) - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(asked, 0.0), LONGEST_PAUSE)


def _date(value: str) -> float:
    return parsedate_to_datetime(value).timestamp()


def pause(failures: int, first: float, most: float, draw: Callable[[], float]) -> float:
    """Seconds until the next attempt after so many *failures* in a row: doubling, and somewhere in the upper half, so
    that many who failed together do not come again together."""
    whole = min(most, first * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + draw() / 2)
