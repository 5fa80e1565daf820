"""Which options hold for a domain, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mcmt.config.curfew import Curfew
from mcmt.config.document import Path as Place
from mcmt.config.document import place
from mcmt.config.load import Loaded
from mcmt.config.patterns import OTHERS, expression_of
from mcmt.config.rate import Rate
from mcmt.config.rules import Rule, RuleBook
from mcmt.config.schema import DomainStanza
from mcmt.config.settings import DomainSettings
from mcmt.message.route import Route
from mcmt.options import OptionsModel, holds_secret

_NOT_SHOWN = "(not shown: it looks like a key or a password)"


class Explained(msgspec.Struct, frozen=True):
    """One option of a domain."""

    option: str
    value: Any
    """Plain data, as the engine has it: durations in seconds, sizes in bytes, paths absolute. Of one that stands
    elsewhere it is the reference."""
    scope: str
    """``default``, ``global``, ``group NAME``, ``expression /.../``, ``every other domain`` or ``domain``."""
    place: str | None
    """``file:line:column``; None for a default."""


class Explanation(msgspec.Struct, frozen=True):
    """What holds for a domain."""

    domain: str
    stanza: str
    """The stanza that serves it: its own name, an expression, or ``*``."""
    options: tuple[Explained, ...]


def explain(loaded: Loaded, domain: str) -> Explanation | None:
    """What holds for *domain*, a routing name; None where no stanza serves it."""
    settings = loaded.settings.domain(domain)
    if settings is None:
        return None
    values: dict[str, Any] = {name: getattr(settings, name) for name in DomainStanza.model_fields}
    if isinstance(settings.options, OptionsModel):
        values |= {name: getattr(settings.options, name) for name in type(settings.options).model_fields}
    return Explanation(domain, settings.name, tuple(_explained(loaded, settings, values)))


def _explained(loaded: Loaded, settings: DomainSettings, values: Mapping[str, Any]) -> Iterator[Explained]:
    reading, file = loaded.reading, str(loaded.settings.file)
    for option, value in values.items():
        origin = settings.scopes.get(option)
        at: Place = (*(origin or ()), option)
        if origin is None and option == settings.options.OWN_NAME and "hostname" in reading.data:
            origin, at = (), ("hostname",)
        if origin is None:
            yield Explained(option, _plain(value), "default", None)
            continue
        told = place(file, reading.mark(at, key=True))
        if at in reading.references:
            yield Explained(option, reading.references[at][0], _scope(origin, settings), told)
            continue
        plain = _plain(value)
        if isinstance(plain, list):
            plain = [_shown(reading.shown(each, at)) for each in plain]
        elif isinstance(plain, str):
            plain = _shown(reading.shown(plain, at))
        yield Explained(option, plain, _scope(origin, settings), told)


def _scope(origin: tuple[str, ...], settings: DomainSettings) -> str:
    if not origin:
        return "global"
    if origin[0] != "domain":
        return f"group {origin[1]}"
    if settings.name == OTHERS:
        return "every other domain"
    return f"expression {settings.name}" if expression_of(settings.name) is not None else "domain"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | RuleBook):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, Path | Route | Rate | Curfew | Rule) else value


def _shown(text: Any) -> Any:
    return _NOT_SHOWN if holds_secret(str(text)) else text
