"""What a configuration that is read again changes in a running engine, and what it cannot change before a restart.

Rules: values alone, nothing is carried out here. Options are named and their values are not: they may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from mcmt.config.patterns import is_pattern
from mcmt.config.settings import (
    BeanstalkdSettings,
    DomainSettings,
    EventLogSettings,
    GatewaySettings,
    HttpAddressSettings,
    HttpSettings,
    Settings,
)
from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.config.xmpp_settings import XmppSettings

_LISTENER: Final = "esmtp_listener"
_HTTP: Final = "http_listener"
_AT_ONCE: Final = ("hostname", "max_deliveries_per_message", "max_resident_messages", "drain_timeout")
"""Fields of Settings that hold from the reload on."""
_ADDRESSES: Final[Mapping[str, str]] = MappingProxyType(
    {"listen": _LISTENER, "gateways": "apns_gateway", "pyapns": "pyapns", "propeller": "propeller"}
)
"""Fields of Settings that have listening addresses, and their stanzas."""
_LOGGERS: Final = ("channel_loggers", "mainlog", "rejectlog", "token_loggers")
_BY_PARTS: Final = frozenset(
    {
        "file",
        "domains",
        "patterns",
        "made",
        "intake",
        "webhooks",
        "opentelemetry",
        "http",
        "beanstalkd",
        *_ADDRESSES,
        *_LOGGERS,
    }
)
"""Those of which parts do. Every other field stays as it was at the start."""
_STANZAS: Final[Mapping[str, str]] = MappingProxyType({"control_socket": "control", "xmpp": "xmpp_component"})
"""Of fields that stay: the stanza, where it has another name."""
_LOG_OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {f"{kind}_format": f"log_{kind}_format" for kind in ("delivery", "tempfail", "permfail", "heartbeat")}
)
"""Of fields of EventLogSettings: the option, where it has another name."""


class DomainChange(msgspec.Struct, frozen=True):
    """One stanza under ``domain``."""

    stanza: str
    change: Literal["new", "removed", "changed"]
    options: tuple[str, ...] = ()
    """Those that differ, wherever they are inherited from."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between the settings of a running engine and those that were read now."""

    settings: Settings
    """What holds from the reload on: the new ones, and the old ones where that needs a restart."""
    domains: tuple[DomainChange, ...]
    options: tuple[str, ...]
    """Other options that hold from the reload on, by their paths."""
    restart: tuple[str, ...]
    """Options and stanzas that have changed and stay as they were, by their paths."""


def changes_between(running: Settings, read: Settings) -> Changes:
    """What *read* changes in an engine with the settings *running*."""
    bound = {
        field: _addresses(stanza, getattr(running, field), getattr(read, field)) for field, stanza in _ADDRESSES.items()
    }
    http = _addresses(_HTTP, running.http.listen, read.http.listen)
    places = (*bound.values(), http)
    fields = [field for field in _differing(running, read) if field not in _BY_PARTS and field not in _AT_ONCE]
    if running.xmpp and read.xmpp:  # what they need is opened at the start
        fields = [field for field in fields if field != "xmpp"]
    restart = [_STANZAS.get(field, field) for field in fields]
    loggers = {field: _loggers(running, read, field) for field in _LOGGERS}
    options = [option for option in _AT_ONCE if getattr(running, option) != getattr(read, option)]
    options += [f"{_LISTENER}.{option}" for option in _differing(running.intake, read.intake)]
    options += [option for one in places for option in one.options]
    options += _http(running.http, read.http)
    options += _by_name("beanstalkd.connect.", _by_address(running.beanstalkd), _by_address(read.beanstalkd))
    options += dict.fromkeys(option for one in loggers.values() for option in one.options)
    if "xmpp" not in fields:
        options += _by_name("xmpp_component.", _by_jid(running.xmpp), _by_jid(read.xmpp))
    options += _by_name("webhook.", _named(running.webhooks), _named(read.webhooks))
    options += _telemetry(running.opentelemetry, read.opentelemetry)
    domains = tuple(_domains(running.domains, read.domains))
    if not domains and running.patterns != read.patterns:
        options.append("domain")  # the order of its expressions
    return Changes(
        settings=msgspec.structs.replace(
            read,
            http=msgspec.structs.replace(read.http, listen=http.settings),
            **{field: found.settings for field, found in (*bound.items(), *loggers.items())},
            **{field: getattr(running, field) for field in fields},
        ),
        domains=domains,
        options=tuple(options),
        restart=(*restart, *[option for one in (*loggers.values(), *places) for option in one.restart]),
    )


def _domains(running: Mapping[str, DomainSettings], read: Mapping[str, DomainSettings]) -> Iterator[DomainChange]:
    for name, stanza in read.items():
        if (before := running.get(name)) is None:
            yield DomainChange(name, "new")
        elif before != stanza:
            yield DomainChange(name, "changed", tuple(_domain_options(before, stanza)))
    for name in running:
        if name not in read:
            yield DomainChange(name, "removed")


def _domain_options(before: DomainSettings, now: DomainSettings) -> Iterator[str]:
    yield from (option for option in _differing(before, now) if option not in ("options", "scopes"))
    for option in sorted({*_channel_options(before), *_channel_options(now)}):
        if getattr(before.options, option, None) != getattr(now.options, option, None):
            yield option
    if before.options == now.options and msgspec.structs.replace(before, scopes=now.scopes) == now:
        # The same values, and another stanza that they come from.
        yield from sorted(
            option
            for option in before.scopes.keys() | now.scopes.keys()
            if before.scopes.get(option) != now.scopes.get(option)
        )


def _channel_options(domain: DomainSettings) -> Sequence[str]:
    return tuple(getattr(type(domain.options), "model_fields", ()))


class _Bound(msgspec.Struct, frozen=True):
    """What holds of the members of one stanza, or field; what has changed there; what needs a restart."""

    settings: tuple[Any, ...]
    options: tuple[str, ...]
    restart: tuple[str, ...]


def _addresses(stanza: str, running: Sequence[Any], read: Sequence[Any]) -> _Bound:
    now = {(one.host, one.port): one for one in read}
    before = {(one.host, one.port): one for one in running}
    settings: list[Any] = []
    options: list[str] = []
    restart: list[str] = []
    for place, one in before.items():
        path = _place(stanza, one)
        if (other := now.get(place)) is None:
            settings.append(one)
            restart.append(path)
            continue
        stays = _staying(one, other)
        settings.append(msgspec.structs.replace(other, **{option: getattr(one, option) for option in stays}))
        for option in _differing(one, other):
            (restart if option in stays else options).append(f"{path}.{option}")
    restart += [_place(stanza, one) for place, one in now.items() if place not in before]
    return _Bound(tuple(settings), tuple(options), tuple(restart))


def _staying(before: object, now: object) -> tuple[str, ...]:
    """Options of an address that hold for as long as it is bound."""
    if isinstance(before, GatewaySettings):
        return ("feedback",)  # an address too
    if (
        isinstance(before, HttpAddressSettings)
        and isinstance(now, HttpAddressSettings)
        and (before.tls_certificate is None) != (now.tls_certificate is None)
    ):
        return ("tls_certificate", "tls_key")  # HTTP becomes HTTPS, or HTTPS HTTP
    return ()


def _place(stanza: str, one: Any) -> str:
    host = one.host or ""
    return f'{stanza}.listen."{f"[{host}]" if ":" in host else host}:{one.port}"'


def _http(running: HttpSettings, read: HttpSettings) -> Iterator[str]:
    if running.status_retention != read.status_retention:
        yield f"{_HTTP}.status_retention"
    before, now = ({one.name: (key, one) for key, one in each.tokens.items()} for each in (running, read))
    yield from (
        f"{_HTTP}.tokens.{name}" for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)
    )


def _loggers(running: Settings, read: Settings, field: str) -> _Bound:
    before: Mapping[str, EventLogSettings] = {one.name: one for one in getattr(running, field)}
    settings: list[EventLogSettings] = []
    restart: list[str] = []
    for one in getattr(read, field):
        logger = one
        known = before.get(one.name)
        if known is not None and _moves_with_the_spool(known.logfile, running, one.logfile, read):
            logger = msgspec.structs.replace(one, logfile=known.logfile)
            restart.append(_log_option(field, one.name, "logfile"))
        settings.append(logger)
    now = {one.name: one for one in settings}
    options: list[str] = []
    for name in dict.fromkeys((*before, *now)):
        if name in before and name in now:
            options += [_log_option(field, name, option) for option in _differing(before[name], now[name])]
        else:
            options.append(name)
    return _Bound(tuple(settings), tuple(options), tuple(restart))


def _moves_with_the_spool(before: Path, running: Settings, now: Path, read: Settings) -> bool:
    """A log in the spool's folder stays in the one that is in use."""
    folders = running.spool.path, read.spool.path
    return folders[0] != folders[1] and (before.parent, now.parent) == folders and before.name == now.name


def _log_option(field: str, name: str, option: str) -> str:
    if option == "logfile" and field in ("mainlog", "rejectlog"):
        option = field
    return f"{name.removesuffix('.rejectlog')}.{_LOG_OPTIONS.get(option, option)}"


def _by_name(path: str, before: Mapping[str, msgspec.Struct], now: Mapping[str, msgspec.Struct]) -> Iterator[str]:
    """Members that have come or gone, and options that have changed."""
    for name in dict.fromkeys((*before, *now)):
        if name in before and name in now:
            yield from (f"{path}{name}.{option}" for option in _differing(before[name], now[name]))
        else:
            yield f"{path}{name}"


def _telemetry(running: TelemetrySettings | None, read: TelemetrySettings | None) -> Iterator[str]:
    if running is not None and read is not None:
        yield from (f"opentelemetry.{option}" for option in _differing(running, read))
    elif running != read:
        yield "opentelemetry"


def _named(webhooks: Sequence[WebhookSettings]) -> Mapping[str, WebhookSettings]:
    return {one.name: one for one in webhooks}


def _by_jid(components: Sequence[XmppSettings]) -> Mapping[str, XmppSettings]:
    return {f'"{one.jid}"': one for one in components}


def _by_address(servers: Sequence[BeanstalkdSettings]) -> Mapping[str, BeanstalkdSettings]:
    return {f'"{one.address}"': one for one in servers}


def _differing(before: msgspec.Struct, now: msgspec.Struct) -> Iterator[str]:
    return (name for name in before.__struct_fields__ if getattr(before, name) != getattr(now, name))


def shown_stanza(name: str) -> str:
    """The path of a stanza under ``domain``, as it stands in the file."""
    return f'domain."{name}"' if is_pattern(name) else f"domain.{name}"
