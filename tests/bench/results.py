"""What a benchmark found, as it is kept on disk and as the document is made of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One run of one contender, as its peer counted it."""

    count: int
    """Messages or pushes that the peer has counted."""
    seconds: float
    cpu: float
    """Seconds of CPU of the contender's processes, in user and in system mode."""
    memory: int = 0
    """Bytes: the most that was resident, over all processes of the contender."""
    largest: int = 0
    """Bytes: of the largest of them."""
    sink: float = 0.0
    """Seconds of CPU of nginx's worker meanwhile."""
    source: float = 0.0
    """And of the load generator."""

    @property
    def rate(self) -> float:
        """A second."""
        return self.count / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of CPU for each."""
        return self.cpu / self.count * 1e6


class Goal(msgspec.Struct, frozen=True):
    """What is aimed at, and what was measured."""

    text: str
    measured: str
    met: bool


class Profile(msgspec.Struct, frozen=True):
    """Where a process spent its time on a processor, by py-spy. Shares are of 1."""

    title: str
    samples: int
    stations: list[tuple[str, float]]
    """By the innermost function of ours on the stack: its folder."""
    threads: list[tuple[str, float]]
    functions: list[tuple[str, float]]
    """By the innermost Python function, ours or not."""


class Table(msgspec.Struct, frozen=True):
    """One benchmark."""

    title: str
    how: str
    """What was done, for a reader who wants to do it again."""
    header: list[str]
    rows: list[list[str]]
    goals: list[Goal]
    notes: list[str] = []
    chart: list[tuple[str, float, str]] = []
    """Bars: label, length, and the figure at the end."""
    profiles: list[Profile] = []
    noise: str = ""
    """What else the machine did meanwhile."""
    date: str = ""
    form: str = ""


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], hundredths: int) -> float:
    """The value that so many hundredths do not exceed; of few values the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * hundredths // 100)]


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """The median, and in brackets the least and the most."""
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} – {high})"
