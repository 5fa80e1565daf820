"""When to try again: pure functions of what is known, with randomness as an argument.

The schedule is Momentum's: the nth retry waits ``retry_interval * 2**(n-1)``, at most
``max_retry_interval``. Jitter keeps what failed together from coming back together.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp

JITTER = 0.2
"""A delay is spread over its own value and this much more."""

_DOUBLINGS = 40  # past these every interval has met its cap; keeps the product finite


def retry_delay(attempts: int, interval: float, cap: float, random: Callable[[], float]) -> float:
    """Seconds to wait after the *attempts*-th attempt (from 1) failed; *random* gives [0, 1)."""
    base = min(ldexp(interval, min(attempts - 1, _DOUBLINGS)), max(cap, interval))
    return base * (1 + JITTER * random())
