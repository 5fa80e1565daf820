"""How the options that shape a domain's traffic are written in the file: pydantic's side of rate.py."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from mcmt.config.rate import RATE_TEXT, parse_rate
from mcmt.options import also_text

RateText = Annotated[Any, BeforeValidator(parse_rate), also_text({"type": "integer", "minimum": 0}, RATE_TEXT)]
"""A Rate; None: no limit."""
