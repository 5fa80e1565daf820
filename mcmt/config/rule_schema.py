"""How shaping rules are written in the file: pydantic's side of rules.py."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from mcmt.config.rules import Rule, compile_reason
from mcmt.config.shaping import RateText
from mcmt.options import WORD, OptionsModel, Seconds, also_text, parse_duration

MOST_RULES: Final = 50
_MOST_TEXTS: Final = 50
_UNTIL_RESUMED: Final = "until_resumed"
_NAME: Final = r"[A-Za-z0-9_.-]{1,64}"
_CODE: Final = r"[0-9x]{1,3}"


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _code(value: object) -> object:
    text = str(value).lower() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(_CODE, text):
        raise ValueError("expected a code such as 429, or 5xx for all that begin with 5")
    return text


def _reason(value: str) -> str:
    compile_reason(value)
    return value


def _duration(value: object) -> object:
    return 0.0 if value == _UNTIL_RESUMED else parse_duration(value, "s") or _no_time()


def _no_time() -> object:
    raise ValueError("must be more than 0")


def _or_one(schema: dict[str, Any]) -> None:
    array = {key: schema.pop(key) for key in ("type", "items", "minItems", "maxItems")}
    schema["anyOf"] = [array["items"], array]


def _retries(value: object) -> object:
    if value in ("auto", "none"):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("expected auto (until the message expires), none (the same) or a whole number")


Code = Annotated[str, BeforeValidator(_code), also_text({"type": "integer"}, _CODE)]
Reason = Annotated[str, AfterValidator(_reason)]
Count = Annotated[int, Field(ge=1)]
Span = Annotated[Seconds, Field(gt=0)]
_SEVERAL = Field(min_length=1, max_length=_MOST_TEXTS, json_schema_extra=_or_one)


_MAY_BE_NONE: Final = {"outbound_throttle_messages", "outbound_throttle_connections", "max_retries"}
"""Options of which None is a value: no limit."""


class RuleMatchStanza(OptionsModel):
    """``rules``, one rule's ``match``: an answer for which everything holds that is given"""

    code: Annotated[list[Code], BeforeValidator(_listed), _SEVERAL] | None = None
    reason: Annotated[list[Reason], BeforeValidator(_listed), _SEVERAL] | None = None
    kind: Literal["any", "transient", "permanent"] = "any"

    @model_validator(mode="after")
    def _says_something(self) -> RuleMatchStanza:
        if self.code is None and self.reason is None and self.kind == "any":
            raise ValueError("would match every answer: give a code, a reason, or the kind transient or permanent")
        return self


class RuleSetStanza(OptionsModel):
    """``rules``, one rule's ``then.set``: options of the domain while the rule is in force"""

    outbound_throttle_messages: RateText = None
    outbound_throttle_connections: RateText = None
    max_outbound_connections: Count | None = None
    max_deliveries_per_connection: Annotated[int, Field(ge=0)] | None = None
    connection_ramp_up: Annotated[int, Field(ge=0)] | None = None
    connect_timeout: Span | None = None
    idle_timeout: Span | None = None
    retry_interval: Span | None = None
    max_retry_interval: Span | None = None
    max_retries: Annotated[
        int | None, BeforeValidator(_retries), also_text({"type": "integer", "minimum": 0}, "auto|none")
    ] = None
    ambiguous: Literal["retry", "fail"] | None = None
    generate_bounces: bool | None = None

    @model_validator(mode="after")
    def _sets_something(self) -> RuleSetStanza:
        if not self.model_fields_set:
            raise ValueError(f"sets nothing; it may set: {', '.join(sorted(type(self).model_fields))}")
        for option in self.model_fields_set - _MAY_BE_NONE:
            if getattr(self, option) is None:
                raise ValueError(f"{option} has no value; give it one or remove the line")
        return self


class RuleThenStanza(OptionsModel):
    """``rules``, one rule's ``then``"""

    suspend: bool = False
    fail: Annotated[Literal["none", "matching", "queue"], WORD] = "none"
    set: RuleSetStanza | None = None
    duration: Annotated[
        float, BeforeValidator(_duration), also_text({"type": "number", "exclusiveMinimum": 0}, r"\d.*|until_resumed")
    ]

    @model_validator(mode="after")
    def _does_something(self) -> RuleThenStanza:
        if not (self.suspend or self.set) and self.fail == "none":
            raise ValueError("does nothing: give suspend, fail or set")
        return self


class RuleStanza(OptionsModel):
    """``rules``, one rule"""

    match: RuleMatchStanza
    times: Annotated[int, Field(ge=1, le=1_000_000)]
    within: Annotated[Seconds, Field(gt=0, le=86400)]
    without_success: bool = False
    then: RuleThenStanza


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError("expected a name of letters, digits, _ . and -, up to 64 of them")
    return value


def _rules(stanzas: dict[str, RuleStanza]) -> tuple[Rule, ...]:
    return tuple(_rule(name, stanza) for name, stanza in stanzas.items())


def _rule(name: str, stanza: RuleStanza) -> Rule:
    match, then = stanza.match, stanza.then
    options = then.set.model_fields_set if then.set else ()
    return Rule(
        name=name,
        codes=tuple(match.code or ()),
        reasons=tuple(match.reason or ()),
        kind=match.kind,
        times=stanza.times,
        within=stanza.within,
        without_success=stanza.without_success,
        suspend=then.suspend,
        fail=then.fail,
        values=tuple((option, getattr(then.set, option)) for option in sorted(options)),
        duration=then.duration,
    )


def _or_none(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = {"anyOf": [schema["additionalProperties"], {"type": "null"}]}


RuleMap = Annotated[
    dict[Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string"})], RuleStanza],
    Field(max_length=MOST_RULES, json_schema_extra=_or_none),
    AfterValidator(_rules),
]
"""A tuple of Rule, in the order of the file."""
