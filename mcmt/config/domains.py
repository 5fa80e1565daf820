"""The domain stanzas, with what they inherit (scopes.py), read into DomainSettings.

An option is legal in a stanza when the engine or the domain's channel has it. At top level any option of the engine
or of any channel may stand, as the default of every domain whose channel has it. A group's options are those of its
channel, where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from mcmt.config.channel_schema import Channels, ChannelSchema, needs_of
from mcmt.config.document import Path
from mcmt.config.faults import Checker, Locate
from mcmt.config.made_domains import MadeDomains
from mcmt.config.patterns import OTHERS, compile_expression, expression_of
from mcmt.config.rules import RuleBook
from mcmt.config.schema import DOMAIN_NAME, ELSEWHERE, DomainStanza, RootStanza
from mcmt.config.scopes import RULES, Group, Inherited, Scope, gather, read_groups
from mcmt.config.settings import DomainSettings
from mcmt.message.address import routing_name
from mcmt.message.route import Route, parse_route
from mcmt.options import OptionsModel

_ENGINE = frozenset(DomainStanza.model_fields)


def default_names(channels: Channels) -> frozenset[str]:
    """The options that may stand at top level as defaults of the domains."""
    return _ENGINE.union(*(_options(channel) for channel in channels.values()))


def read_domains(
    checker: Checker,
    channels: Channels,
    open_files: bool,
    root: RootStanza | None = None,
    made: MadeDomains | None = None,
) -> dict[str, DomainSettings]:
    """Every domain that is right enough to be used, by name; what is wrong is noted in *checker*.

    With *open_files* each channel also looks into the files that its options name. *root*: what stands at top level,
    where that is right enough. *made*: the domains that were made for apps, whose stanzas are there already.
    """
    reader = _Reader(checker, channels, open_files, root)
    stanzas = checker.mapping(("domain",), checker.data.get("domain"))
    groups = read_groups(checker, None if made is None else made.groups)
    group_of = {member: group for group in groups for member in group.members}
    if not stanzas and not groups and made is None:
        checker.fault(
            ("domain",), "there is no domain, so no mail would be accepted; add one, as in the sample", key=True
        )
    domains: dict[str, DomainSettings] = {}
    seen: dict[str, str] = {}
    for written, stanza in stanzas.items():
        path: Path = ("domain", written)
        name = _name(checker, path, written)
        if seen.setdefault(name, written) != written:
            checker.fault(path, f"is the same domain as {seen[name]}; keep one of the two", key=True)
        own = Scope(path, checker.mapping(path, stanza))
        if (domain := reader.read(name, own, group_of.get(name))) is not None:
            domains[name] = domain
    for group in groups:
        domains |= reader.read_group(group, [member for member in group.members if member not in seen])
    reader.check_defaults()
    return domains


def _name(checker: Checker, path: Path, written: str) -> str:
    if expression_of(written) is not None:
        try:
            compile_expression(written)
        except ValueError as error:
            checker.fault(path, str(error), key=True)
        return written
    name = routing_name(written)
    if name != OTHERS and not DOMAIN_NAME.fullmatch(name):
        checker.fault(path, 'expected a domain name, "/expression/", or "*" for every other domain', key=True)
    return name


def _nearness(origin: Path) -> int:
    return ((), ("domain_group",), ("domain",)).index(origin[:1])


def _options(channel: ChannelSchema) -> frozenset[str]:
    return frozenset(channel.Options.model_fields) | frozenset(channel.Options.IGNORED)


class _Reader:
    def __init__(self, checker: Checker, channels: Channels, open_files: bool, root: RootStanza | None) -> None:
        self._checker = checker
        self._channels = channels
        self._open_files = open_files
        self._hostname = root.hostname if root else None
        self._drain_timeout = root.drain_timeout if root else math.inf
        self._defaults = {name: value for name, value in checker.data.items() if name in default_names(channels)}
        self._used: set[str] = set()
        self._books: dict[RuleBook, RuleBook] = {}
        self._having: dict[str, list[str]] = {}
        """The channels that have an option."""
        for kind, channel in sorted(channels.items()):
            for option in _options(channel):
                self._having.setdefault(option, []).append(kind)

    def read(self, name: str, own: Scope, group: Group | None) -> DomainSettings | None:
        """One stanza, of a domain that may be a group's member; None when it lacks what it needs."""
        scopes = [Scope((), self._defaults), own] if group is None else [Scope((), self._defaults), group.scope, own]
        return self._read(name, own, gather(scopes))

    def read_group(self, group: Group, names: Sequence[str]) -> dict[str, DomainSettings]:
        """Those of a group's members that have no stanza of their own; one reading is good for all of them."""
        inherited = gather([Scope((), self._defaults), group.scope])
        if names:
            domain = self._read(names[0], group.scope, inherited)
            return {} if domain is None else {name: msgspec.structs.replace(domain, name=name) for name in names}
        # Each member may have an option of its own in place of a wrong one here.
        channel = (
            self._channels.get(method) if isinstance(method := inherited.given.get("delivery_method"), str) else None
        )
        self._check_names(group.scope, method, channel)
        for model in (DomainStanza, *((channel.Options,) if channel else ())):
            mine = {name: value for name, value in group.scope.options.items() if name in model.model_fields}
            schemes = channel.SCHEMES if channel else None
            self._checker.validate(model, mine, lambda loc: group.scope.path + loc, required=False, schemes=schemes)
        return {}

    def _read(self, name: str, own: Scope, inherited: Inherited) -> DomainSettings | None:
        path, given, origins = own.path, inherited.given, inherited.origins

        def locate(loc: Path) -> Path:
            if loc[:1] == (RULES,) and len(loc) > 1:
                return inherited.rules.get(str(loc[1]), path) + loc
            return (origins.get(str(loc[0]), path) if loc else path) + loc

        channel = self._channel(given.get("delivery_method"), locate)
        self._check_names(own, given.get("delivery_method"), channel)
        engine, _ = self._checker.validate(
            DomainStanza,
            {option: value for option, value in given.items() if option in _ENGINE},
            locate,
            schemes=channel.SCHEMES if channel else None,
        )
        if channel is None:
            return None
        fields = channel.Options.model_fields
        if channel.Options.OWN_NAME and self._hostname is not None:
            given.setdefault(channel.Options.OWN_NAME, self._hostname)
        options, wrong = self._checker.validate(
            channel.Options, {option: value for option, value in given.items() if option in fields}, locate
        )
        if options is None:
            return None
        routes = self._routes(engine.routes, channel.Options, locate) if engine else ()
        # A wrong option is absent here: that misleads the channel, but for one that has a default.
        if self._open_files and all(fields[option].default is not None for option in wrong if option in fields):
            self._check_files(channel, options, routes, path, locate)
        if engine is None:
            return None
        values = {option: getattr(engine, option) for option in _ENGINE}
        values["routes"] = routes
        values[RULES] = self._rule_book(engine)
        values["max_retry_interval"] = self._max_retry_interval(engine, origins, locate)
        if needs := needs_of(channel, options, routes):
            if "max_resident_active_queue" not in engine.model_fields_set:
                values["max_resident_active_queue"] = max(engine.max_resident_active_queue, needs.unanswered)
            if engine.idle_timeout <= needs.longest_silence:
                self._checker.fault(
                    locate(("idle_timeout",)) if "idle_timeout" in given else path,
                    f"idle_timeout ({engine.idle_timeout:g} s) has to be longer than delivery_response_timeout "
                    f"({needs.longest_silence:g} s)",
                )
            if needs.own_domain and not (
                origins.get(needs.own_domain, path)[:1] == ("domain",) and DOMAIN_NAME.fullmatch(name)
            ):
                self._checker.fault(
                    locate((needs.own_domain,)), "speaks of one domain's tokens: give it in that domain's own stanza"
                )
            if self._drain_timeout < needs.longest_silence:
                self._checker.warn(
                    path,
                    f"drain_timeout ({self._drain_timeout:g} s) is less than delivery_response_timeout "
                    f"({needs.longest_silence:g} s): what is on its way when mcmt stops is sent again after the start",
                )
        names = {origin: tuple(map(str, origin)) for origin in set(origins.values())}
        scopes = {option: names[origin] for option, origin in origins.items()}
        return DomainSettings(name=name, options=options, scopes=scopes, **values)

    def _check_files(
        self, channel: ChannelSchema, options: OptionsModel, routes: tuple[Route, ...], path: Path, locate: Locate
    ) -> None:
        for finding in channel.check(options, routes):
            place = locate((finding.option,)) if finding.option else path
            if finding.fault:
                self._checker.fault(place, finding.text)
            elif finding.warning:
                self._checker.warn(place, finding.text)
            else:
                self._checker.find(place, finding.text)

    def _channel(self, method: object, locate: Locate) -> ChannelSchema | None:
        if not isinstance(method, str):
            return None  # the schema says so
        self._used.add(method)
        channel = self._channels.get(method)
        if channel is None:
            there = ", ".join(sorted(self._channels))
            self._checker.fault(
                locate(("delivery_method",)), f"there is no channel {method!r} in this version; there are: {there}"
            )
        return channel

    def _check_names(self, own: Scope, method: object, channel: ChannelSchema | None) -> None:
        not_available = DomainStanza.NOT_AVAILABLE
        path = own.path
        for option in own.options:
            having = self._having.get(option, ())
            if option in _ENGINE or (channel is None and having):
                continue
            if channel is None:
                self._checker.unknown((*path, option), not_available, default_names(self._channels), ELSEWHERE)
            elif option in channel.Options.IGNORED:
                self._checker.warn((*path, option), f"has no effect: {channel.Options.IGNORED[option]}", key=True)
            elif option not in channel.Options.model_fields:
                elsewhere = f"it is one of the channel {having[0]}, and delivery_method is {method}" if having else ""
                self._checker.unknown(
                    (*path, option),
                    not_available | channel.Options.NOT_AVAILABLE,
                    _ENGINE | _options(channel),
                    {option: elsewhere} if having else ELSEWHERE,
                )

    def _routes(self, written: list[Route], options: type[OptionsModel], locate: Locate) -> tuple[Route, ...]:
        routes: dict[Route, None] = {}
        for index, route in enumerate(written):
            place = locate(("routes", index))
            successor = options.RETIRED_HOSTS.get(route.host)
            # A route that names its protocol insists on the place as well.
            if successor and "protocol" not in dict(route.parameters):
                self._checker.warn(place, f"{route.host} has been switched off; its deliveries go to {successor}")
                route = parse_route(f"{route.scheme}://{successor}")
            if route in routes:
                self._checker.warn(place, f"{route} is given twice")
            routes[route] = None
        return tuple(routes)

    def _rule_book(self, engine: DomainStanza) -> RuleBook:
        """One for all domains with these rules: what it remembers of answers is theirs together."""
        book = RuleBook(engine.rules)  # type: ignore[arg-type]  # what the validator has made of it
        return self._books.setdefault(book, book)

    def _max_retry_interval(self, engine: DomainStanza, origins: Mapping[str, Path], locate: Locate) -> float:
        if "max_retry_interval" not in engine.model_fields_set:
            return max(engine.max_retry_interval, engine.retry_interval)
        if engine.max_retry_interval < engine.retry_interval:
            blamed = max(("max_retry_interval", "retry_interval"), key=lambda name: _nearness(origins.get(name, ())))
            self._checker.fault(
                locate((blamed,)),
                f"max_retry_interval ({engine.max_retry_interval:g} s) is less than "
                f"retry_interval ({engine.retry_interval:g} s)",
            )
        return engine.max_retry_interval

    def check_defaults(self) -> None:
        """Defaults that no domain has looked at: the engine's, and those of channels that no domain uses."""
        engine = {option: value for option, value in self._defaults.items() if option in _ENGINE}
        self._checker.validate(DomainStanza, engine, lambda loc: loc, required=False)
        looked_at = set(_ENGINE)
        for kind in sorted(self._channels, key=lambda kind: (kind not in self._used, kind)):
            options = self._channels[kind].Options
            mine = {
                option: value
                for option, value in self._defaults.items()
                if option in options.model_fields and (kind in self._used or option not in looked_at)
            }
            self._checker.validate(options, mine, lambda loc: loc, required=False)
            looked_at |= mine.keys()
            for option in self._defaults.keys() & options.IGNORED.keys():
                self._checker.warn((option,), f"has no effect on {kind} domains: {options.IGNORED[option]}", key=True)
