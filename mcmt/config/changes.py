"""What a configuration that is read again changes in a running engine, and what it cannot change before a restart.

Rules: values alone, nothing is carried out here. Options are named and their values are not: they may be secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from mcmt.config.patterns import is_pattern
from mcmt.config.settings import DomainSettings, EventLogSettings, ListenSettings, Settings
from mcmt.config.webhook_settings import WebhookSettings

_LISTENER: Final = "esmtp_listener"
_AT_ONCE: Final = ("hostname", "max_deliveries_per_message", "max_resident_messages", "drain_timeout")
"""Fields of Settings that hold from the reload on."""
_BY_PARTS: Final = frozenset({"file", "domains", "patterns", "listen", "intake", "webhooks"})
"""Those of which parts do. Every other field stays as it was at the start."""
_STANZAS: Final[Mapping[str, str]] = MappingProxyType(
    {"control_socket": "control", "gateways": "apns_gateway", "http": "http_listener", "xmpp": "xmpp_component"}
)
"""Of fields that stay: the stanza, where it has another name."""
_LOGGERS: Final = ("channel_loggers", "mainlog", "rejectlog", "token_loggers")
"""Of fields that stay: those that are named by their own names."""


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
    listen, listener_options, addresses = _listen(running.listen, read.listen)
    fields = [field for field in _differing(running, read) if field not in _BY_PARTS and field not in _AT_ONCE]
    restart = [_STANZAS.get(field, field) for field in fields if field not in _LOGGERS]
    restart += [name for field in fields if field in _LOGGERS for name in _loggers(running, read, field)]
    options = [option for option in _AT_ONCE if getattr(running, option) != getattr(read, option)]
    options += [f"{_LISTENER}.{option}" for option in _differing(running.intake, read.intake)]
    options += _webhooks(running.webhooks, read.webhooks)
    domains = tuple(_domains(running.domains, read.domains))
    if not domains and running.patterns != read.patterns:
        options.append("domain")  # the order of its expressions
    return Changes(
        settings=msgspec.structs.replace(read, listen=listen, **{field: getattr(running, field) for field in fields}),
        domains=domains,
        options=(*options, *listener_options),
        restart=(*restart, *addresses),
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


def _listen(
    running: Sequence[ListenSettings], read: Sequence[ListenSettings]
) -> tuple[tuple[ListenSettings, ...], list[str], list[str]]:
    """What holds at the addresses that are bound; options that have changed there; addresses that have come or gone."""
    now = {(one.host, one.port): one for one in read}
    before = {(one.host, one.port): one for one in running}
    options = [
        f"{_place(one)}.{option}"
        for place, one in before.items()
        if place in now
        for option in _differing(one, now[place])
    ]
    addresses = [_place(one) for place, one in before.items() if place not in now]
    addresses += [_place(one) for place, one in now.items() if place not in before]
    return tuple(now.get((one.host, one.port), one) for one in running), options, addresses


def _place(listen: ListenSettings) -> str:
    host = listen.host or ""
    return f'{_LISTENER}.listen."{f"[{host}]" if ":" in host else host}:{listen.port}"'


def _loggers(running: Settings, read: Settings, field: str) -> Iterator[str]:
    before: Mapping[str, EventLogSettings] = {one.name: one for one in getattr(running, field)}
    now: Mapping[str, EventLogSettings] = {one.name: one for one in getattr(read, field)}
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            yield name


def _webhooks(running: Sequence[WebhookSettings], read: Sequence[WebhookSettings]) -> Iterator[str]:
    before, now = {one.name: one for one in running}, {one.name: one for one in read}
    for name in dict.fromkeys((*before, *now)):
        if name in before and name in now:
            yield from (f"webhook.{name}.{option}" for option in _differing(before[name], now[name]))
        else:
            yield f"webhook.{name}"


def _differing(before: msgspec.Struct, now: msgspec.Struct) -> Iterator[str]:
    return (name for name in before.__struct_fields__ if getattr(before, name) != getattr(now, name))


def shown_stanza(name: str) -> str:
    """The path of a stanza under ``domain``, as it stands in the file."""
    return f'domain."{name}"' if is_pattern(name) else f"domain.{name}"
