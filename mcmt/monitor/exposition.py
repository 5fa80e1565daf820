"""Prometheus' text format, version 0.0.4: families of samples, as bytes.

https://prometheus.io/docs/instrumenting/exposition_formats/

Rules: pure; a family's samples stand together, after its HELP and TYPE, and none comes twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Type = Literal["counter", "gauge", "histogram"]


class Exposition:
    """A page that grows family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: Type, text: str) -> None:
        """Begin a family; its samples follow. *text*: what it means, for people."""
        told = text.replace("\\", "\\\\").replace("\n", "\\n")
        self._lines.append(f"# HELP {name} {told}\n# TYPE {name} {kind}")

    def sample(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """One sample of the family begun last."""
        self._lines.append(f"{name}{_labels(labels)} {number(value)}")

    def histogram(
        self, name: str, bounds: Sequence[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
    ) -> None:
        """The samples of one histogram. *counts*: one for each bound, and one beyond all of them; not added up."""
        sums = list(accumulate(counts))
        for bound, below in zip((*bounds, math.inf), sums, strict=True):
            self.sample(f"{name}_bucket", below, {**labels, "le": number(bound)})
        self.sample(f"{name}_sum", total, labels)
        self.sample(f"{name}_count", sums[-1], labels)

    def render(self) -> bytes:
        """The page."""
        # A name that is not UTF-8 came in as one by surrogates: it must not cost the whole page.
        return "\n".join([*self._lines, ""]).encode("utf-8", "replace")


def number(value: float) -> str:
    """*value* as the format writes it."""
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def _labels(labels: Mapping[str, str] | None) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
