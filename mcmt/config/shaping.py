"""How the options that shape a domain's traffic are written in the file: pydantic's side of rate.py and curfew.py."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from mcmt.config.curfew import DAYS, MIDNIGHT, Curfew, endless
from mcmt.config.rate import RATE_TEXT, parse_rate
from mcmt.options import OptionsModel, also_text

RateText = Annotated[Any, BeforeValidator(parse_rate), also_text({"type": "integer", "minimum": 0}, RATE_TEXT)]
"""A Rate; None: no limit."""

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00")


def _time_of_day(value: object) -> object:
    if not isinstance(value, str) or not (match := _TIME.fullmatch(value)):
        raise ValueError('expected a time of the day such as "22:00", up to "24:00"')
    return MIDNIGHT if value == "24:00" else int(match[1]) * 60 + int(match[2])


def _time_zone(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a time zone such as Europe/Berlin or UTC")
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # of a folder's name, of one that is no name, of none
        raise ValueError(
            "there is no such time zone on this machine; expected one such as Europe/Berlin or UTC (tzdata has them)"
        ) from None
    return value


TimeOfDay = Annotated[
    int, BeforeValidator(_time_of_day), WithJsonSchema({"type": "string", "pattern": f"^(?:{_TIME.pattern})$"})
]


class CurfewStanza(OptionsModel):
    """``curfew``, one of them"""

    start: TimeOfDay
    end: TimeOfDay
    time_zone: Annotated[str, BeforeValidator(_time_zone)]
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(list(DAYS), min_length=1)
    exempt: Literal["none", "high"] = "none"
    """The priority that it lets pass."""

    @model_validator(mode="after")
    def _has_a_length(self) -> CurfewStanza:
        if self.start in (self.end, MIDNIGHT):
            raise ValueError('has no length: start and end are the same; for a whole day "00:00" and "24:00"')
        return self


def _listed(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _settings(stanzas: list[CurfewStanza]) -> tuple[Curfew, ...]:
    curfews = tuple(
        Curfew(one.start, one.end, one.time_zone, tuple(day for day in DAYS if day in one.days), one.exempt)
        for one in stanzas
    )
    if endless(curfews):
        raise ValueError("leaves no time at which anything is sent; to send nothing at all there is suspend_delivery")
    return curfews


def _or_one(schema: dict[str, Any]) -> None:
    array = {"type": schema.pop("type"), "items": schema["items"]}
    schema["anyOf"] = [schema.pop("items"), array]


CurfewList = Annotated[
    list[CurfewStanza], BeforeValidator(_listed), AfterValidator(_settings), Field(json_schema_extra=_or_one)
]
"""A tuple of Curfew; one alone may stand without the list."""
