"""The stanzas of the configuration file, one class each: names, types, bounds and defaults of their options.

Defaults that mcmt/config/settings.py has are taken from there. A domain's stanza is ``DomainStanza`` and its channel's
own Options together; mcmt/config/domains.py puts them together. Nothing here looks at a second option or opens a file.
"""

from __future__ import annotations

import grp
import pwd
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from mcmt.config.made_settings import MakeDomains
from mcmt.config.rule_schema import RuleMap
from mcmt.config.settings import (
    DomainSettings,
    EventLogSettings,
    GatewaySettings,
    HttpAddressSettings,
    HttpSettings,
    IntakeSettings,
    ListenSettings,
    MonitorSettings,
    PropellerSettings,
    PyapnsSettings,
    RunAs,
    Settings,
    SpoolSettings,
)
from mcmt.config.shaping import CurfewList, RateText
from mcmt.message.address import routing_name
from mcmt.message.route import parse_route
from mcmt.options import FilePath, OptionsModel, Seconds, Size, also_text

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Who may submit mail when ``relay_hosts`` is not given."""


def _default(settings: type[msgspec.Struct], option: str) -> Any:
    return next(field.default for field in msgspec.structs.fields(settings) if field.name == option)


def _host_name(value: str) -> str:
    # RFC 1123 2.1, and underscores, which machines have in practice.
    if len(value) > 253 or not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]*)(\.[A-Za-z0-9_]([A-Za-z0-9_-]*))*", value):
        raise ValueError("expected a host name such as mx.example.com")
    return value


def _run_as(value: object) -> RunAs:
    if not isinstance(value, str) or not (match := re.fullmatch(r"([^\s:]+)(?::([^\s:]+))?", value)):
        raise ValueError("expected a user of this machine, or user:group")
    user, group = match.groups()
    try:
        entry = pwd.getpwnam(user)
        gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid
    except (KeyError, ValueError):
        raise ValueError(f"this machine has no such user or group: {value[:40]!a}") from None
    if entry.pw_uid == 0:
        raise ValueError("that user is root: name one that may do less, or remove the line")
    return RunAs(user, entry.pw_uid, gid)


MAX_WORKERS = 256


def _workers(value: object) -> object:
    return None if value == "auto" else value


def _retries(value: object) -> object:
    if value in ("auto", "none"):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("expected auto (until the message expires), none (the same) or a whole number")


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected an address or a network such as 192.0.2.0/24, in quotes")
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 192.0.2.0/24: {error}") from None


def _octal(value: object) -> object:
    # 0644 is text by our YAML rules; 644 and 0o644 can mean nothing else, as for chmod.
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"(0o?)?[0-7]{3}", text):
        raise ValueError("expected a file mode in octal such as 0644")
    mode = int(text, 8)
    if not mode & 0o200:
        raise ValueError("the file's owner could not write it; expected a mode in octal such as 0644")
    return mode


def _route(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a route such as apn://api.push.apple.com")
    route = parse_route(value)
    schemes = (info.context or {}).get("schemes")
    if schemes is not None and route.scheme not in schemes:
        raise ValueError(f"this domain's channel has routes with {', '.join(f'{each}://' for each in sorted(schemes))}")
    return route


DOMAIN_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A domain's routing name."""
_LONGEST_SUFFIX = 100


def _suffix(value: str) -> str:
    name = routing_name(value)
    if not DOMAIN_NAME.fullmatch(name) or len(name) > _LONGEST_SUFFIX:
        raise ValueError(f"expected a domain of at most {_LONGEST_SUFFIX} characters such as apps.example.com")
    return name


HostName = Annotated[str, AfterValidator(_host_name)]
Count = Annotated[int, Field(ge=1)]
Span = Annotated[Seconds, Field(gt=0)]
Mode = Annotated[int, BeforeValidator(_octal), also_text({"type": "integer"}, "(0o?)?[0-7]{3}")]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})]
RouteText = Annotated[Any, BeforeValidator(_route), WithJsonSchema({"type": "string", "pattern": "^[a-z]+://"})]


class RootStanza(OptionsModel):
    """Options at top level that are not defaults of domains."""

    hostname: HostName | None = None
    """None: the machine's full name."""
    workers: Annotated[
        Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None,
        BeforeValidator(_workers),
        also_text({"type": "integer"}, "auto"),
    ] = 1
    run_as: Annotated[Any, BeforeValidator(_run_as)] = None
    """A RunAs; None: the engine stays who started it."""
    max_deliveries_per_message: Count = _default(Settings, "max_deliveries_per_message")
    max_resident_messages: Count = _default(Settings, "max_resident_messages")
    drain_timeout: Seconds = _default(Settings, "drain_timeout")


class SpoolStanza(OptionsModel):
    """``spool``"""

    path: FilePath
    min_free: Size = _default(SpoolSettings, "min_free")
    """Bytes of its disk that no new message may take: 452 4.3.1 below."""


class ControlStanza(OptionsModel):
    """``control``"""

    socket: FilePath | None = None
    """None: ``control.sock`` in the spool's folder."""


class MonitorStanza(OptionsModel):
    """``monitor``"""

    listen: str | None = None
    """None: nobody listens."""
    max_metric_domains: Count = _default(MonitorSettings, "max_metric_domains")
    alert_suspended: Seconds = _default(MonitorSettings, "alert_suspended")
    alert_oldest: Seconds = _default(MonitorSettings, "alert_oldest")
    alert_disconnected: Seconds = _default(MonitorSettings, "alert_disconnected")


class ListenerStanza(OptionsModel):
    """``esmtp_listener``, beside ``listen``: what holds over all addresses"""

    max_connections: Count = _default(IntakeSettings, "max_connections")
    max_connections_per_address: Count = _default(IntakeSettings, "max_connections_per_address")
    max_intake_bytes: Annotated[Size, Field(ge=1)] = _default(IntakeSettings, "max_intake_bytes")
    auth_failures_per_session: Count = _default(IntakeSettings, "auth_failures_per_session")
    auth_failures_per_address: Count = _default(IntakeSettings, "auth_failures_per_address")
    auth_failure_window: Span = _default(IntakeSettings, "auth_failure_window")


EhloKeyword = Literal["DSN", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY"]
"""Extensions that an address may go without."""


class ListenStanza(OptionsModel):
    """``esmtp_listener.listen``, one address"""

    mcmt_reception: Literal["passthru", "allow", "reject"] = _default(ListenSettings, "mcmt_reception")
    relay_hosts: list[Network] = Field(default_factory=lambda: [ip_network(each) for each in LOOPBACK])
    authorized_xclient_hosts: list[Network] = Field(default_factory=list)
    proxy_protocol: list[Network] = Field(default_factory=list)
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    require_tls: bool = _default(ListenSettings, "require_tls")
    users_file: FilePath | None = None
    max_message_size: Annotated[Size, Field(ge=1)] = _default(ListenSettings, "max_message_size")
    # RFC 5321 4.5.3.1.8: a server takes 100 recipients or more.
    max_recipients_per_message: Annotated[int, Field(ge=100)] = _default(ListenSettings, "max_recipients_per_message")
    max_errors: Count = _default(ListenSettings, "max_errors")
    idle_timeout: Span = _default(ListenSettings, "idle_timeout")
    data_timeout: Span = _default(ListenSettings, "data_timeout")
    min_data_rate: Annotated[Size, Field(ge=0)] = _default(ListenSettings, "min_data_rate")
    # RFC 4865 3: an interval has nine digits at most.
    max_future_release: Annotated[Seconds, Field(le=999_999_999)] = _default(ListenSettings, "max_future_release")
    discard_ehlo_keywords: list[EhloKeyword] = Field(default_factory=list)


ELSEWHERE = {
    **dict.fromkeys(ListenerStanza.model_fields, "it belongs to esmtp_listener"),
    **dict.fromkeys(ListenStanza.model_fields, "it belongs to an address below esmtp_listener.listen"),
}
"""Options that are looked for in the wrong stanza, and where they belong."""


class GatewayStanza(OptionsModel):
    """``apns_gateway.listen``, one address"""

    tls_certificate: FilePath
    tls_key: FilePath | None = None
    client_ca: FilePath
    domain: str | None = None
    domains: Annotated[dict[str, str], Field(min_length=1)] | None = None
    feedback: str | None = None
    return_path: str | None = None
    """None: nobody hears of failures."""
    idle_timeout: Span = _default(GatewaySettings, "idle_timeout")


class HttpStanza(OptionsModel):
    """``http_listener``, beside ``listen`` and ``tokens``"""

    # Keys are promised for a day.
    status_retention: Annotated[Seconds, Field(ge=86400)] = _default(HttpSettings, "status_retention")


class HttpAddressStanza(OptionsModel):
    """``http_listener.listen``, one address"""

    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    """None: the key is in the certificate's file."""
    max_message_size: Annotated[Size, Field(ge=1)] = _default(HttpAddressSettings, "max_message_size")
    idle_timeout: Span = _default(HttpAddressSettings, "idle_timeout")
    data_timeout: Span = _default(HttpAddressSettings, "data_timeout")


HttpScope = Literal["send", "status"]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class HttpTokenStanza(OptionsModel):
    """``http_listener.tokens``, one token"""

    hash: str
    scopes: Annotated[tuple[HttpScope, ...], BeforeValidator(_tuple), Field(min_length=1)] = ("send", "status")
    domains: Annotated[list[str], Field(min_length=1)] | None = None
    """None: every domain."""


class MakeDomainsStanza(OptionsModel):
    """``make_domains`` of an address of ``pyapns.listen``"""

    suffix: Annotated[str, AfterValidator(_suffix)]
    most: Annotated[int, Field(ge=1, le=1000)] = _default(MakeDomains, "most")
    domain_group: str | None = None
    production: Annotated[list[RouteText], Field(min_length=1)] | None = None
    sandbox: Annotated[list[RouteText], Field(min_length=1)] | None = None
    """None: Apple's, as production too."""
    certificate_folder: FilePath | None = None


class PyapnsStanza(OptionsModel):
    """``pyapns.listen``, one address"""

    production: dict[str, str] | None = None
    sandbox: dict[str, str] | None = None
    make_domains: MakeDomainsStanza | None = None
    return_path: str | None = None
    """None: nobody hears of failures."""
    max_message_size: Annotated[Size, Field(ge=1)] = _default(PyapnsSettings, "max_message_size")
    idle_timeout: Span = _default(PyapnsSettings, "idle_timeout")


class PropellerStanza(OptionsModel):
    """``propeller.listen``, one address"""

    SECRETS = frozenset({"auth_token"})

    auth_token: Annotated[str, Field(min_length=1)]
    topics: Annotated[dict[str, str], Field(min_length=1)]
    return_path: str | None = None
    """None: nobody hears of failures."""
    max_message_size: Annotated[Size, Field(ge=1)] = _default(PropellerSettings, "max_message_size")
    idle_timeout: Span = _default(PropellerSettings, "idle_timeout")


class DomainStanza(OptionsModel):
    """``domain``, one domain: the engine's options, whatever the channel. All may stand at top level as defaults."""

    delivery_method: str
    routes: Annotated[list[RouteText], Field(min_length=1)]
    max_outbound_connections: Count = _default(DomainSettings, "max_outbound_connections")
    max_deliveries_per_connection: Annotated[int, Field(ge=0)] = _default(
        DomainSettings, "max_deliveries_per_connection"
    )
    connection_ramp_up: Annotated[int, Field(ge=0)] = _default(DomainSettings, "connection_ramp_up")
    outbound_throttle_messages: RateText = None
    outbound_throttle_connections: RateText = None
    curfew: CurfewList = _default(DomainSettings, "curfew")
    connect_timeout: Span = _default(DomainSettings, "connect_timeout")
    idle_timeout: Span = _default(DomainSettings, "idle_timeout")
    retry_interval: Span = _default(DomainSettings, "retry_interval")
    max_retry_interval: Span = _default(DomainSettings, "max_retry_interval")
    max_retries: Annotated[
        int | None, BeforeValidator(_retries), also_text({"type": "integer", "minimum": 0}, "auto|none")
    ] = _default(DomainSettings, "max_retries")
    message_expiration: Span = _default(DomainSettings, "message_expiration")
    max_resident_active_queue: Count = _default(DomainSettings, "max_resident_active_queue")
    ambiguous: Literal["retry", "fail"] = _default(DomainSettings, "ambiguous")
    generate_bounces: bool = _default(DomainSettings, "generate_bounces")
    delay_warning_time: Seconds = _default(DomainSettings, "delay_warning_time")
    suspend_delivery: bool = _default(DomainSettings, "suspend_delivery")
    suppress_gone_tokens: bool = _default(DomainSettings, "suppress_gone_tokens")
    priority: Literal["high", "normal", "bulk"] = _default(DomainSettings, "priority")
    replace_queued: bool = _default(DomainSettings, "replace_queued")
    rules: RuleMap = ()  # type: ignore[assignment]  # what the validator makes of it


class GroupStanza(OptionsModel):
    """``domain_group``, one group, beside the options of a domain, which are its members' defaults."""

    members: Annotated[list[str], Field(min_length=1)]


class ChannelLoggerStanza(OptionsModel):
    """``<channel>_logger``, one logger. What is None comes from the channel."""

    logfile: FilePath | None = None
    logmode: Mode = _default(EventLogSettings, "logmode")
    heartbeat: Seconds = _default(EventLogSettings, "heartbeat")
    format: Literal["text", "json"] = _default(EventLogSettings, "format")
    token_log: Literal["full", "masked", "hash", "none"] = _default(EventLogSettings, "token_log")
    log_delivery: bool = _default(EventLogSettings, "log_delivery")
    log_tempfail: bool = _default(EventLogSettings, "log_tempfail")
    log_permfail: bool = _default(EventLogSettings, "log_permfail")
    log_delivery_format: str | None = None
    log_tempfail_format: str | None = None
    log_permfail_format: str | None = None
    log_heartbeat_format: str | None = None
    rotate: dict[Any, Any] | None = None
    """A RotateStanza."""


class MainLoggerStanza(OptionsModel):
    """``ec_logger``, one logger: the main log, the reject log, or both. They have no switches: they are the ledger."""

    mainlog: FilePath | None = None
    rejectlog: FilePath | None = None
    logmode: Mode = _default(EventLogSettings, "logmode")
    heartbeat: Seconds = _default(EventLogSettings, "heartbeat")
    format: Literal["text", "json"] = _default(EventLogSettings, "format")
    token_log: Literal["full", "masked", "hash", "none"] = _default(EventLogSettings, "token_log")
    rotate: dict[Any, Any] | None = None
    """A RotateStanza, for both files."""


class TokenLoggerStanza(OptionsModel):
    """``token_logger``, one logger: a JSON line for every token that is gone, or registered again."""

    logfile: FilePath
    logmode: Mode = _default(EventLogSettings, "logmode")
    heartbeat: Seconds = 0.0
    token_log: Literal["full", "masked", "hash", "none"] = _default(EventLogSettings, "token_log")
    rotate: dict[Any, Any] | None = None
    """A RotateStanza."""
