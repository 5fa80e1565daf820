"""A logger's ``rotate`` as the engine holds it."""

from __future__ import annotations

from typing import Literal

import msgspec


class RotateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a log begins a new file, and what becomes of the old ones."""

    size: int | None = 100 * 1024**2
    """Bytes at which a file is full; None: never."""
    every: float | None = 86400.0
    """At the multiples of so many seconds since 1970-01-01 00:00 UTC; None: never."""
    keep: int | None = 7
    """How many rotated files stay, the youngest; None: all."""
    compress: Literal["gzip", "none"] = "gzip"
