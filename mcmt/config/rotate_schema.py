"""``rotate`` of a logger, one class: names, types, bounds and defaults of its options (schema.py)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from mcmt.config.settings import RotateSettings
from mcmt.options import OptionsModel, also_text, parse_duration, parse_size

_DEFAULT: Final = RotateSettings()
SMALLEST_LOG = 64 * 1024
"""Bytes that ``rotate.size`` must have: less would be a new file with every burst of lines."""


def _rotate_size(value: object) -> object:
    if value == "none":
        return None
    size = parse_size(value)
    if size < SMALLEST_LOG:
        raise ValueError(f"must be at least {SMALLEST_LOG // 1024}KB, or none")
    return size


def _rotate_every(value: object) -> object:
    if value == "none":
        return None
    every = parse_duration(value, "s")
    if every < 60:
        raise ValueError("must be at least 60 seconds, or none; for a day write 1d")
    return every


def _keep(value: object) -> object:
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("expected all, or how many rotated files stay: a whole number from 1")


class RotateStanza(OptionsModel):
    """``rotate`` of a logger"""

    size: Annotated[
        int | None, BeforeValidator(_rotate_size), also_text({"type": "integer"}, r"none|\d+\s*([Bb]|[KkMmGg][Bb])")
    ] = _DEFAULT.size
    every: Annotated[
        float | None, BeforeValidator(_rotate_every), also_text({"type": "number"}, r"none|\d+(\.\d+)?\s*(ms|s|m|h|d)")
    ] = _DEFAULT.every
    keep: Annotated[int | None, BeforeValidator(_keep), also_text({"type": "integer", "minimum": 1}, "all")] = (
        _DEFAULT.keep
    )
    compress: Literal["gzip", "none"] = _DEFAULT.compress
