"""Contenders in turn on a machine that others use too: what disturbs one round disturbs all who run in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.bench.results import Sample, median

ROUNDS = 3

Samples = Mapping[str, Sequence[Sample]]


def interleaved(
    contenders: Mapping[str, Callable[[], Sample]], say: Callable[[str], None], rounds: int = ROUNDS
) -> dict[str, list[Sample]]:
    """Run each contender once a round, every other round in reverse order."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for round_ in range(rounds):
        names = list(contenders)
        for name in reversed(names) if round_ % 2 else names:
            sample = contenders[name]()
            samples[name].append(sample)
            say(f"{name}: {sample.rate:,.0f}/s, {sample.cost:,.1f} us CPU each")
    return samples


def ratio(samples: Samples, ours: str, theirs: str) -> float:
    """How many times as fast: the median of the rounds' own ratios."""
    return median([one.rate / other.rate for one, other in zip(samples[ours], samples[theirs], strict=True)])


def cost_ratio(samples: Samples, ours: str, theirs: str) -> float:
    """How many times as much CPU they spend on each: the median of the rounds' own ratios."""
    return median([other.cost / one.cost for one, other in zip(samples[ours], samples[theirs], strict=True)])
