"""Rules: which requests or connections get something else than 200, and how often.

A rule is asked only about requests that Apple would have taken, so a client's own mistakes always show.
Rules are asked in order; the first that fires decides, and those behind it are not asked, so they do not
count that request either. The YAML form of the same fields is read by rules_file.py.
"""

from __future__ import annotations

import fnmatch
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

from h2.errors import ErrorCodes
from pydantic import BeforeValidator, Field, model_validator

from mcmt.options import OptionsModel, Seconds
from mcmt.simulator.action import Action, Goaway, Settings
from mcmt.simulator.reasons import STATUS
from mcmt.simulator.reserved import reserved

_MAX_TOKENS = 100_000
"""Counters that a rule with ``per: token`` keeps; the oldest goes first."""
_CONNECT = frozenset({"when", "nth", "first", "every", "goaway", "close", "settings"})
"""Fields that mean something when a client connects."""
_ANSWER = re.compile(r"(\d{3})(?:\s+(\S+))?")
_MAX_WINDOW = 2**31 - 1


def _answer(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and value in STATUS:
        value = f"{STATUS[value]} {value}"
    match = _ANSWER.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 200 <= int(match[1]) <= 599:
        raise ValueError("expected a status and a reason such as 410 Unregistered, or one of Apple's reasons")
    if not match[2] and match[1] != "200":
        raise ValueError(f"expected a reason behind the status, such as {match[1]} InternalServerError")
    return str(value)


def _code(value: object) -> int:
    if isinstance(value, str) and value in ErrorCodes.__members__:
        return int(ErrorCodes[value])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**32 - 1:
        return value
    raise ValueError("expected an HTTP/2 error code by name or number, such as REFUSED_STREAM or 7")


def _numbers(value: object) -> object:
    return (value,) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value


def _word_goaway(value: object) -> object:
    return {"last": value} if isinstance(value, str | int) and not isinstance(value, bool) else value


ErrorCode = Annotated[int, BeforeValidator(_code)]
Count = Annotated[int, Field(ge=1)]


class GoawayRule(OptionsModel):
    """``goaway: middle`` or ``goaway: {last: middle, code: NO_ERROR, debug: text}``."""

    last: Literal["all", "none", "middle"] | Annotated[int, Field(ge=0, le=_MAX_WINDOW)] = "all"
    code: ErrorCode = 0
    debug: str = ""

    def action(self) -> Goaway:
        """The same as data that the connection works on."""
        return Goaway(self.last, self.code, self.debug.encode())


class SettingsRule(OptionsModel):
    """``settings: {max_concurrent_streams: 1, initial_window_size: 0, restore_after: 2s}``."""

    max_concurrent_streams: Annotated[int, Field(ge=0, le=_MAX_WINDOW)] | None = None
    initial_window_size: Annotated[int, Field(ge=0, le=_MAX_WINDOW)] | None = None
    restore_after: Seconds | None = None


class Rule(OptionsModel):
    """When something else happens than 200, and what."""

    when: Literal["request", "connect"] = "request"
    """``connect``: asked for each new connection, with goaway, close or settings."""
    token: str = "*"  # noqa: S105 - a glob, not a secret
    """Device token: ``*`` and ``?`` as in file names, small and capital letters alike."""
    topic: str = "*"
    """The apns-topic header, likewise."""
    per: Literal["simulator", "connection", "token"] = "simulator"
    """What matches are counted by, for nth, first and every."""
    nth: Annotated[tuple[Count, ...], BeforeValidator(_numbers)] = ()
    """Only these matches, from 1; a number or a list."""
    first: Annotated[int, Field(ge=0)] = 0
    """Only the first so many matches; 0: all."""
    every: Count = 1
    """Only every so-manieth match."""
    answer: Annotated[str, BeforeValidator(_answer)] = "200"
    """Status and reason, or a reason alone."""
    timestamp: int | None = None
    """With 410: milliseconds since the epoch. Default: now."""
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds, as a Retry-After header."""
    body: str | None = None
    """Sent in place of the JSON."""
    delay: Seconds = 0.0
    slow: Seconds = 0.0
    silent: bool = False
    reset: Annotated[int, BeforeValidator(_code)] | None = None
    reset_after_answer: Annotated[int, BeforeValidator(_code)] | None = None
    goaway: Annotated[GoawayRule, BeforeValidator(_word_goaway)] | None = None
    close: bool = False
    settings: SettingsRule | None = None

    @model_validator(mode="after")
    def _one_fault(self) -> Rule:
        names = [name for name in ("silent", "reset", "goaway", "close") if getattr(self, name) not in (False, None)]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} exclude each other: give one")
        if self.when == "connect" and (foreign := sorted(self.model_fields_set - _CONNECT)):
            raise ValueError(f"when a client connects there is no request for {', '.join(foreign)}")
        return self

    def action(self) -> Action:
        """The same as data that the connection works on."""
        status, _, reason = (
            f"{STATUS[self.answer]} {self.answer}" if self.answer in STATUS else self.answer
        ).partition(" ")
        return Action(
            status=int(status),
            reason=reason.strip(),
            timestamp=self.timestamp,
            retry_after=self.retry_after,
            body=None if self.body is None else self.body.encode(),
            delay=self.delay,
            slow=self.slow,
            silent=self.silent,
            reset=self.reset,
            reset_after_answer=self.reset_after_answer,
            goaway=None if self.goaway is None else self.goaway.action(),
            close=self.close,
            settings=None if self.settings is None else Settings(**dict(self.settings)),
        )


class _Counter:
    """How often something happened for a key; bounded."""

    def __init__(self) -> None:
        self._counts: OrderedDict[object, int] = OrderedDict()

    def next(self, key: object) -> int:
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > _MAX_TOKENS:
            self._counts.popitem(last=False)
        return count


class _Matcher:
    """One rule at work."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._action = rule.action()
        self._token = None if rule.token == "*" else re.compile(fnmatch.translate(rule.token.lower()))  # noqa: S105
        self._topic = None if rule.topic == "*" else re.compile(fnmatch.translate(rule.topic.lower()))
        self._counter = _Counter()

    def ask(self, token: str, topic: str, connection: int) -> Action | None:
        rule = self._rule
        if self._token is not None and not self._token.match(token):
            return None
        if self._topic is not None and not self._topic.match(topic):
            return None
        key = {"simulator": None, "connection": connection, "token": token}[rule.per]
        count = self._counter.next(key)
        fires = (
            (not rule.nth or count in rule.nth) and (not rule.first or count <= rule.first) and count % rule.every == 0
        )
        return self._action if fires else None


class Rulebook:
    """All rules of one simulator, and the reserved tokens behind them."""

    def __init__(self, rules: Sequence[Rule], reserved_tokens: bool) -> None:
        self._request = [_Matcher(rule) for rule in rules if rule.when == "request"]
        self._connect = [_Matcher(rule) for rule in rules if rule.when == "connect"]
        self._reserved = _Counter() if reserved_tokens else None

    def for_connection(self, connection: int) -> Action | None:
        """What happens to a new connection, if anything."""
        return next((action for rule in self._connect if (action := rule.ask("", "", connection)) is not None), None)

    def for_request(self, token: str, topic: str, connection: int) -> Action | None:
        """What happens to a request that is good as such; None: 200."""
        token = token.lower()
        for rule in self._request:
            if (action := rule.ask(token, topic.lower(), connection)) is not None:
                return action
        if self._reserved is None or (found := reserved(token)) is None:
            return None
        action, times = found
        return action if not times or self._reserved.next(token) <= times else None
