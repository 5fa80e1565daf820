"""A configuration file read into Settings: everything that is wrong with it, in one run.

Rules: nothing but what is named in the file is read or opened, and nothing is written. What a channel knows about its
own options comes from the channel (mcmt/config/channel_schema.py).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mcmt.config.beanstalkd import STANZA as BEANSTALKD
from mcmt.config.beanstalkd import read_beanstalkd
from mcmt.config.bounce_routes import check_bounce_routes
from mcmt.config.channel_schema import Channels, ChannelSchema
from mcmt.config.document import Mark, Reading, read
from mcmt.config.domains import default_names, read_domains
from mcmt.config.faults import Checker
from mcmt.config.gateways import STANZA as GATEWAY
from mcmt.config.gateways import CheckGateway, read_gateways
from mcmt.config.http import STANZA as HTTP
from mcmt.config.http import CheckHttp, read_http
from mcmt.config.listeners import CheckListen, read_listeners
from mcmt.config.loggers import MAIN, TOKENS, read_loggers, tidy
from mcmt.config.made_domains import read_made_domains
from mcmt.config.monitor import MONITOR, read_monitor
from mcmt.config.patterns import patterns_among
from mcmt.config.request_doors import PROPELLER, PYAPNS, RequestDoorsReader
from mcmt.config.schema import ELSEWHERE, ControlStanza, DomainStanza, RootStanza, SpoolStanza
from mcmt.config.scopes import GROUPS
from mcmt.config.settings import Settings, SpoolSettings, addresses_of
from mcmt.config.sources import Content, Sources
from mcmt.config.telemetry import OPENTELEMETRY, read_telemetry
from mcmt.config.webhooks import WEBHOOK, read_webhooks
from mcmt.config.xmpp import STANZA as XMPP
from mcmt.config.xmpp import read_xmpp
from mcmt.errors import ConfigError, Fault

__all__ = ["ChannelSchema", "Loaded", "find_config", "load"]

PLACES = ("config/mcmt.yaml", "/etc/mcmt/mcmt.yaml")
"""Where the configuration is looked for when nothing names it."""

_DOORS = frozenset({GATEWAY, BEANSTALKD, HTTP, PYAPNS, PROPELLER, XMPP})
"""Beside SMTP."""
_STANZAS = _DOORS | {
    "esmtp_listener",
    GROUPS,
    MONITOR,
    "spool",
    "control",
    "domain",
    MAIN,
    TOKENS,
    WEBHOOK,
    OPENTELEMETRY,
}
_SOCKET_NAME = 64
"""Bytes of the control socket's own name. Its folder's path may be of any length (mcmt/control/unix_socket.py)."""


def _processors() -> int:
    return len(os.sched_getaffinity(0))


class Loaded(msgspec.Struct, frozen=True):
    """What a file without faults says."""

    settings: Settings
    warnings: tuple[Fault, ...]
    """What works and is probably not meant."""
    findings: tuple[Fault, ...] = ()
    """What the channels found out about their options: certificates with subject, topics, days left."""
    content: Content = Content({})
    """All that was read, for another process to read the same."""
    reading: Reading = Reading({}, {}, {})
    """The file as data, with the place of each key and value."""


def find_config(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The configuration file: *explicit*, else ``$MCMT_CONFIG``, else the first of PLACES that exists.

    Raises ConfigError naming the places that were looked at.
    """
    named = explicit or (Path(environ["MCMT_CONFIG"]) if environ.get("MCMT_CONFIG") else None)
    places = [named] if named else [Path(place) for place in PLACES]
    for place in places:
        if place.exists():
            return place
    if named:
        by = "--config" if explicit else "$MCMT_CONFIG"
        raise ConfigError((Fault(str(named), "", f"there is no such file; {by} names it"),))
    looked = " nor ".join(PLACES)
    raise ConfigError((Fault(looked, "", "there is no such file; name one with --config FILE or $MCMT_CONFIG"),))


def load(
    file: Path,
    channels: Mapping[str, ChannelSchema],
    *,
    check_format: Callable[[str], None] | None = None,
    check_listen: CheckListen | None = None,
    check_gateway: CheckGateway | None = None,
    check_http: CheckHttp | None = None,
    open_files: bool = True,
    full_hostname: Callable[[], str] = socket.getfqdn,
    processors: Callable[[], int] = _processors,
    content: Content | None = None,
) -> Loaded:
    """Read *file*. Raises ConfigError with all its faults, in the order of their places.

    *check_format* raises ValueError for a log format that cannot be used. *full_hostname* is asked when the file has no
    ``hostname``. *check_listen*, *check_gateway* and *check_http* say what they found in the files that an address
    names. Without *open_files* nobody looks into certificates, keys and users: for commands that only want to know
    where things are. *content*: as somebody has read it before. *processors*: how many there are, for
    ``workers: auto``.
    """
    sources = Sources(content)
    try:
        main = sources.main(file)
    except OSError as error:
        raise ConfigError((Fault(str(file), "", f"cannot be read: {error.strerror}"),)) from error
    if faults := _collisions(channels):
        raise ConfigError(faults)
    document = read(main, str(file), sources, resolve=open_files)
    faults_found: dict[Fault, Mark] = {fault: mark for mark, fault in document.faults}
    base = file.absolute().parent.resolve()
    loaded: Loaded | None = None
    for reading in document.readings:
        checker = Checker(reading, str(file), base)
        settings = _settings(
            checker,
            file,
            sources,
            channels,
            check_format,
            check_listen if open_files else None,
            check_gateway if open_files else None,
            check_http if open_files else None,
            open_files,
            full_hostname,
            processors,
        )
        if settings is not None:
            warnings, findings = _in_order(checker.warnings), _in_order(checker.findings)
            loaded = Loaded(settings, warnings, findings, sources.content, reading)
        faults_found |= checker.faults
    if loaded is None or faults_found:
        raise ConfigError(_in_order(faults_found))
    return loaded


def _settings(
    checker: Checker,
    file: Path,
    sources: Sources,
    channels: Channels,
    check_format: Callable[[str], None] | None,
    check_listen: CheckListen | None,
    check_gateway: CheckGateway | None,
    check_http: CheckHttp | None,
    open_files: bool,
    full_hostname: Callable[[], str],
    processors: Callable[[], int],
) -> Settings | None:
    data = checker.data
    _check_names(checker, channels)
    root, _ = checker.validate(
        RootStanza, {name: value for name, value in data.items() if name in RootStanza.model_fields}, lambda loc: loc
    )
    workers = 1 if root is None else root.workers or processors()
    spool, _ = checker.stanza(SpoolStanza, ("spool",), data.get("spool"))
    control, _ = checker.stanza(ControlStanza, ("control",), data.get("control"))
    spool_path = tidy(spool.path if spool else checker.base)
    made = read_made_domains(checker, sources, spool_path)
    domains = read_domains(checker, channels, open_files, root, made)
    check_bounce_routes(checker, channels, domains)
    listen, intake = read_listeners(checker, channels, domains, check_listen, workers, _DOORS)
    memory = intake.max_intake_bytes // workers
    gateways = read_gateways(checker, channels, domains, listen, memory, check_gateway)
    monitor = read_monitor(checker)
    http = read_http(checker, domains, addresses_of(listen, gateways), memory, check_http)
    reader = RequestDoorsReader(checker, channels, domains, addresses_of(listen, gateways, http), memory)
    pyapns, propeller = reader.pyapns(), reader.propeller()
    beanstalkd = read_beanstalkd(checker, channels, domains, memory)
    xmpp = read_xmpp(checker, channels, domains, memory)
    loggers = read_loggers(checker, channels, domains, spool_path, check_format)
    webhooks = read_webhooks(checker, domains, open_files=open_files)
    telemetry = read_telemetry(checker, open_files=open_files)
    control_socket = tidy((control and control.socket) or spool_path / "control.sock")
    if len(bytes(Path(control_socket.name))) > _SOCKET_NAME:
        checker.fault(("control", "socket"), f"the file's name is longer than {_SOCKET_NAME} bytes; give a shorter one")
    if checker.faults or root is None or spool is None:
        return None
    return Settings(
        file=file,
        hostname=root.hostname or full_hostname(),
        workers=workers,
        spool=SpoolSettings(path=spool_path, min_free=spool.min_free),
        listen=listen,
        intake=intake,
        monitor=monitor,
        gateways=gateways,
        http=http,
        pyapns=pyapns,
        propeller=propeller,
        beanstalkd=beanstalkd,
        xmpp=xmpp,
        domains=domains,
        patterns=patterns_among(domains),
        made={} if made is None else made.domains,
        channel_loggers=loggers.channel_loggers,
        mainlog=loggers.mainlog,
        rejectlog=loggers.rejectlog,
        token_loggers=loggers.token_loggers,
        webhooks=webhooks,
        opentelemetry=telemetry,
        control_socket=control_socket,
        run_as=root.run_as,
        max_deliveries_per_message=root.max_deliveries_per_message,
        max_resident_messages=root.max_resident_messages,
        drain_timeout=root.drain_timeout,
    )


def _check_names(checker: Checker, channels: Channels) -> None:
    """Every name at top level is an option, a default of the domains, or a stanza."""
    loggers = {channel.LOGGER.stanza for channel in channels.values() if channel.LOGGER}
    known = _STANZAS | RootStanza.model_fields.keys() | default_names(channels) | channels.keys() | loggers
    for name, value in checker.data.items():
        if name not in known:
            checker.unknown((name,), DomainStanza.NOT_AVAILABLE, known, ELSEWHERE)
        elif name in channels:
            for option in checker.mapping((name,), value):
                checker.fault(
                    (name, option), "this stanza has no options; a channel's options belong to its domains", key=True
                )


def _collisions(channels: Channels) -> tuple[Fault, ...]:
    """Options of a channel that would hide one of ours: its author's fault."""
    ours = _STANZAS | RootStanza.model_fields.keys() | default_names({}) | channels.keys()
    return tuple(
        Fault(f"channel {kind}", option, "mcmt has an option or a stanza of this name; give the channel's another one")
        for kind, channel in sorted(channels.items())
        for option in sorted(channel.Options.model_fields.keys() & ours)
    )


def _in_order(notes: Mapping[Fault, Mark]) -> tuple[Fault, ...]:
    return tuple(sorted(notes, key=lambda fault: (notes[fault].file, notes[fault], fault)))
