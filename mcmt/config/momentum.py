"""A Momentum configuration made into ours: what has the same meaning is carried over, everything else is told.

Rules: nothing is dropped without a note. What is written is what our own models take; an option whose value they refuse
is told with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from mcmt.config.channel_schema import Channels, ChannelSchema
from mcmt.config.listeners import parse_address
from mcmt.config.loggers import MAIN
from mcmt.config.momentum_syntax import Option, Stanza, Value, parse
from mcmt.config.patterns import compile_expression, expression_of
from mcmt.config.schema import ChannelLoggerStanza, DomainStanza, ListenStanza, MainLoggerStanza, RootStanza
from mcmt.message.route import parse_route
from mcmt.options import OptionsModel

_BOOLEANS = {"on": True, "true": True, "enabled": True, "1": True, "off": False, "false": False, "disabled": False}
_RENAMED = {"idle_time": "idle_timeout"}
_SMTP_TLS = {"required": "must", "ifavailable": "may", "no": "no"}
_MODULE = ("enabled", "debug_level")
_PLACES = {
    "spoolbase": "the spool of one cannot be read by the other: a new one is named",
    "binding": "there are no bindings: give its domains stanzas of their own",
    "binding_group": "there are no bindings: domains that share options are a domain_group",
    "eccluster": "there is no cluster",
}


class Note(msgspec.Struct, frozen=True):
    """Something that was not carried over as it stands."""

    place: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}: {self.why}"


class Imported(msgspec.Struct, frozen=True):
    """A configuration of ours, and what it lacks of the other."""

    document: dict[str, Any]
    notes: tuple[Note, ...]


def import_momentum(file: Path, channels: Channels) -> Imported:
    """Read *file*. Raises ConfigError where it cannot be read as a Momentum configuration."""
    return _Import(channels).run(parse(file))


class _Import:
    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._notes: list[Note] = []

    def run(self, content: Sequence[Option | Stanza]) -> Imported:
        domain_models: list[type[OptionsModel]] = [DomainStanza, *(each.Options for each in self._channels.values())]
        root = self._options([each for each in content if isinstance(each, Option)], [RootStanza, *domain_models])
        listen: dict[str, Any] = {}
        domains: dict[str, Any] = {}
        loggers: dict[str, dict[str, Any]] = {}
        named = {each.LOGGER.stanza for each in self._channels.values() if each.LOGGER}
        for stanza in content:
            if not isinstance(stanza, Stanza):
                continue
            if stanza.name == "esmtp_listener":
                listen |= self._listeners(stanza)
            elif stanza.name == "domain":
                self._domain(stanza, root, domains)
            elif stanza.name in named or stanza.name == MAIN:
                model = MainLoggerStanza if stanza.name == MAIN else ChannelLoggerStanza
                name = stanza.instance or f"{stanza.name}1"
                loggers.setdefault(stanza.name, {})[name] = self._options(self._own(stanza), [model])
            elif stanza.name in self._channels:
                for option in self._own(stanza):
                    if option.name not in _MODULE:
                        self._note(option, "the channel has no options of its own: they belong to its domains")
            else:
                self._note(stanza, _PLACES.get(stanza.name, "there is nothing like it here"))
        document = {**root, "spool": {"path": "spool"}}
        document["esmtp_listener"] = {"listen": listen or {"127.0.0.1:2525": {}}}
        return Imported({**document, "domain": domains, **loggers}, tuple(self._notes))

    def _listeners(self, stanza: Stanza) -> dict[str, Any]:
        shared = self._options([each for each in stanza.content if isinstance(each, Option)], [ListenStanza])
        found = {}
        for each in stanza.content:
            if isinstance(each, Stanza) and each.name == "listen":
                # Every address is "*" there, and nothing at all here.
                address = each.instance.removeprefix("*") if each.instance.startswith("*:") else each.instance
                try:
                    parse_address(address)
                except ValueError as error:
                    self._note(each, str(error))
                else:
                    found[address] = shared | self._options(self._own(each), [ListenStanza])
            elif isinstance(each, Stanza):
                self._note(each, "there is nothing like it in a listener here")
        return found

    def _domain(self, stanza: Stanza, root: Mapping[str, Any], domains: dict[str, Any]) -> None:
        options = self._own(stanza)
        given = {each.name: each for each in options}
        method = given["delivery_method"].value if "delivery_method" in given else root.get("delivery_method")
        name = stanza.instance
        if expression_of(name) is not None:
            try:
                compile_expression(name)
            except ValueError as error:
                self._note(stanza, str(error))
                return
        found: dict[str, Any] = {}
        if method is None and isinstance(gateway := given.get("gateway"), Option) and isinstance(gateway.value, str):
            method, found = "smtp", {"delivery_method": "smtp", "routes": [f"smtp://{gateway.value}"]}
            options = [each for each in options if each is not gateway]
        channel = self._channels.get(str(method))
        if channel is None:
            why = "MX is not looked up here: name a mail server with delivery_method: smtp and routes"
            self._note(stanza, f"there is no channel {method}" if method else why)
            return
        found |= self._options(options, [DomainStanza, channel.Options], channel)
        if "routes" not in found and "routes" not in root:
            self._note(stanza, "it has no routes")
            return
        domains[name] = domains.get(name, {}) | found

    def _own(self, stanza: Stanza) -> list[Option]:
        for each in stanza.content:
            if isinstance(each, Stanza):
                self._note(each, _PLACES.get(each.name, f"there is nothing like it within {stanza.name}"))
        return [each for each in stanza.content if isinstance(each, Option)]

    def _options(
        self, options: Sequence[Option], models: Sequence[type[OptionsModel]], channel: ChannelSchema | None = None
    ) -> dict[str, Any]:
        """Those of *options* that one of *models* takes, as it takes them."""
        found: dict[str, Any] = {}
        for option in options:
            name = _RENAMED.get(option.name, option.name)
            having = [model for model in models if name in model.model_fields]
            ignored = next((model.IGNORED[name] for model in models if name in model.IGNORED and not having), None)
            if option.value is None:
                self._note(option, "it has no value")
            elif ignored is not None:
                self._note(option, f"has no effect: {ignored}")
            elif not having:
                self._note(option, _PLACES.get(name, "there is no such option here"))
            else:
                value, why = _taken(having, name, self._value(option, name, channel))
                if why:
                    self._note(option, why)
                else:
                    found[name] = value
        return found

    def _value(self, option: Option, name: str, channel: ChannelSchema | None) -> Any:
        value = option.value
        if name == "routes":
            routes = value if isinstance(value, list) else [value]
            return [self._route(option, str(each), channel) for each in routes]
        if name == "tls" and isinstance(value, str):
            return _SMTP_TLS.get(value, value)
        return _plain(value)

    def _route(self, option: Option, text: str, channel: ChannelSchema | None) -> str:
        try:
            route = parse_route(text)
        except ValueError:
            return text  # refused, with the reason
        successor = None if channel is None else channel.Options.RETIRED_HOSTS.get(route.host)
        if successor is None or "protocol" in dict(route.parameters):
            return str(route)
        self._note(option, f"{route.host} has been switched off: {route.scheme}://{successor} is written in its place")
        return f"{route.scheme}://{successor}"

    def _note(self, about: Option | Stanza, why: str) -> None:
        instance = f' "{about.instance}"' if isinstance(about, Stanza) and about.instance else ""
        self._notes.append(Note(about.place, f"{about.name}{instance}", why))


def _plain(value: Value | None) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, str):
        return value
    # 0644 is a mode, and stays text.
    return int(value) if value.isascii() and value.isdigit() and (value == "0" or value[0] != "0") else value


def _taken(models: Sequence[type[OptionsModel]], name: str, value: Any) -> tuple[Any, str]:
    """What one of *models* takes for the option *name* that is *value* there; else why none does."""
    why = ""
    for model in models:
        for tried in (value, _BOOLEANS.get(str(value).lower())):
            if tried is None:
                continue
            try:
                model.model_validate({name: tried})
            except ValidationError as error:
                told = [each for each in error.errors() if each["loc"][:1] == (name,)]
                if not told:  # others are missing
                    return tried, ""
                why = why or told[0]["msg"].removeprefix("Value error, ")
            else:
                return tried, ""
    return None, why
