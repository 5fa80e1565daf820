"""The settings as the engine holds them: frozen, complete, every default filled in.

One class a stanza. The schema that reads them out of YAML is mcmt/config/schema.py; these classes are
what the rest of the code knows. Durations are seconds, sizes are bytes, paths are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mcmt.config.curfew import Curfew
from mcmt.config.made_settings import MadeDomain
from mcmt.config.monitor_settings import MonitorSettings as MonitorSettings
from mcmt.config.patterns import Patterns
from mcmt.config.rate import Rate
from mcmt.config.request_settings import PropellerSettings as PropellerSettings
from mcmt.config.request_settings import PyapnsSettings as PyapnsSettings
from mcmt.config.rotate_settings import RotateSettings as RotateSettings
from mcmt.config.rules import RuleBook
from mcmt.config.source_settings import BeanstalkdSettings as BeanstalkdSettings
from mcmt.config.telemetry_settings import TelemetrySettings
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.message.route import Route


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages are kept."""

    path: Path
    min_free: int = 512 * 1024**2


class ListenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the SMTP listener."""

    host: str | None
    """None: every address, IPv4 and IPv6."""
    port: int
    """0: chosen by the system, for tests."""
    mcmt_reception: Literal["passthru", "allow", "reject"] = "passthru"
    relay_hosts: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who may submit without a password."""
    authorized_xclient_hosts: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who may tell by XCLIENT whose session it is."""
    proxy_protocol: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who begins every connection with a header of the PROXY protocol."""
    tls_certificate: Path | None = None
    """PEM; offers STARTTLS."""
    tls_key: Path | None = None
    """None: the key is in the certificate's file."""
    require_tls: bool = False
    """Nothing but STARTTLS is taken before it."""
    users_file: Path | None = None
    """Offers AUTH, over TLS."""
    max_message_size: int = 10 * 1024**2
    max_recipients_per_message: int = 1000
    max_errors: int = 20
    """Commands in one session that were none, or out of place, since the last accepted message."""
    idle_timeout: float = 300.0
    """For one whole command, and for the next octets of a message."""
    data_timeout: float = 600.0
    """For the whole content of a message."""
    min_data_rate: int = 500
    """Octets a second of a message's content; 0: any."""
    max_future_release: float = 366 * 86400.0
    """Seconds ahead that a message may be held; 0: none is."""
    discard_ehlo_keywords: frozenset[str] = frozenset()
    """Extensions that are not offered, nor their parameters taken."""


INTAKE_COPIES: Final = 3
"""How often an octet of a message counts in ``max_intake_bytes``: as it came, as parts, and as the spool writes it."""
GATEWAY_READ: Final = 256 * 1024
"""Bytes that one read of a gateway's connection may bring, as the event loops read."""


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds over all addresses, those of the gateway too, but for what is about logins."""

    max_connections: int = 500
    max_connections_per_address: int = 250
    max_intake_bytes: int = 256 * 1024**2
    auth_failures_per_session: int = 3
    auth_failures_per_address: int = 20
    auth_failure_window: float = 600.0


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the gateway for senders of Apple's binary protocol."""

    host: str | None
    """None: every address, IPv4 and IPv6."""
    port: int
    """0: chosen by the system, for tests."""
    tls_certificate: Path
    tls_key: Path | None = None
    """None: the key is in the certificate's file."""
    client_ca: Path
    """PEM: a client's certificate is one of these, or signed by one of them."""
    domain: str = ""
    """The domain that every client pushes to; empty: see ``domains``."""
    domains: Mapping[str, str] = {}
    """By client: the SHA-256 of its certificate (64 hex digits) or its subject's UID. Others are refused."""
    feedback: tuple[str | None, int] | None = None
    """Host and port of the feedback service."""
    return_path: str = ""
    """Who hears of failures; empty: nobody."""
    idle_timeout: float = 3600.0
    """For one whole notification, and between two of them."""

    def served(self) -> frozenset[str]:
        """The domains that clients of this address push to."""
        return frozenset((self.domain, *self.domains.values())) - {""}


class HttpAddressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One address of the HTTP API."""

    host: str | None
    """None: every address, IPv4 and IPv6."""
    port: int
    """0: chosen by the system, for tests."""
    tls_certificate: Path | None = None
    """PEM: HTTPS."""
    tls_key: Path | None = None
    """None: the key is in the certificate's file."""
    max_message_size: int = 10 * 1024**2
    """Of a request's body, and of one line of a bulk request."""
    idle_timeout: float = 60.0
    """For the head of a request, and between two of them."""
    data_timeout: float = 600.0
    """For the whole body of a request; of a bulk request, for the next octets of it."""


class HttpTokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use the HTTP API, and for what."""

    name: str
    scopes: frozenset[Literal["send", "status"]]
    domains: frozenset[str] | None = None
    """The domains that may be sent to, lower case; None: all."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP API."""

    listen: tuple[HttpAddressSettings, ...] = ()
    tokens: Mapping[str, HttpTokenSettings] = {}
    """By hash: ``sha256:`` and 64 hex digits."""
    status_retention: float = 86400.0
    """Seconds that what became of a message, and the key that it came with, are known."""


class AddressSettings(msgspec.Struct, frozen=True):
    """One address that is listened on, whatever is spoken there."""

    host: str | None
    port: int
    option: str
    """The option that names it."""
    word: str
    """What is spoken there."""
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who tells there whose connection it is: connections from these do not count for their own address."""


class DomainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One domain stanza, with the global defaults merged in."""

    name: str
    """The domain, lower case; ``/expression/`` as written, or ``*`` for every other one."""
    delivery_method: str
    routes: tuple[Route, ...]
    options: Any
    """The channel's own Options."""
    max_outbound_connections: int = 32
    max_deliveries_per_connection: int = 0
    connection_ramp_up: int = 0
    """A route begins with one connection, and may have one more for every so many deliveries that succeed; 0: all."""
    outbound_throttle_messages: Rate | None = None
    """Deliveries that are begun. Shared by all that have it from one stanza (throttle.py)."""
    outbound_throttle_connections: Rate | None = None
    """Connections that are opened; likewise."""
    curfew: tuple[Curfew, ...] = ()
    """When nothing is begun."""
    connect_timeout: float = 10.0
    idle_timeout: float = 300.0
    retry_interval: float = 30.0
    max_retry_interval: float = 900.0
    max_retries: int | None = None
    """None: until expiry (``auto`` and ``none``)."""
    message_expiration: float = 86400.0
    max_resident_active_queue: int = 3000
    ambiguous: Literal["retry", "fail"] = "retry"
    generate_bounces: bool = True
    delay_warning_time: float = 4 * 3600.0
    """Seconds after which a sender that wants to hear of delays does; 0: never."""
    suspend_delivery: bool = False
    suppress_gone_tokens: bool = False
    """Deliveries to tokens that are known to be gone end when they come in."""
    priority: Literal["high", "normal", "bulk"] = "normal"
    """Of messages whose senders ask for none (mcmt/message/priority.py)."""
    replace_queued: bool = False
    """A later message for the same token with the same collapse id ends what is queued."""
    rules: RuleBook = RuleBook()
    scopes: Mapping[str, tuple[str, ...]] = {}
    """The stanza that each option given in the file comes from: ``("domain", "a.example.com")`` for the domain's own or
    its expression's, ``("domain_group", "apps")`` for its group's, ``()`` for the top level. Values are the domain's
    own wherever they come from; what all who inherit it have to share is shared by this name."""


class EventLogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One logger: a file, the events that it takes, and their formats."""

    name: str
    """Stanza and instance: ``apn_logger.apn_logger1``."""
    channel: str | None
    """Only this channel's events; None: the main log."""
    logfile: Path
    logmode: int = 0o644
    heartbeat: float = 60.0
    format: Literal["text", "json"] = "text"
    token_log: Literal["full", "masked", "hash", "none"] = "full"  # noqa: S105 - a word, not a secret
    """How device tokens are written."""
    log_delivery: bool = True
    log_tempfail: bool = True
    log_permfail: bool = True
    delivery_format: str = ""
    tempfail_format: str = ""
    permfail_format: str = ""
    heartbeat_format: str = ""
    rotate: RotateSettings | None = None
    """None: the file grows until someone else rotates it."""


class RunAs(msgspec.Struct, frozen=True):
    """Whom the engine becomes once its addresses are bound."""

    user: str
    uid: int
    gid: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    file: Path
    hostname: str
    workers: int
    spool: SpoolSettings
    listen: tuple[ListenSettings, ...]
    domains: Mapping[str, DomainSettings]
    """By name; ``*`` stands for every other domain, ``/expression/`` for those that it matches."""
    patterns: Patterns = Patterns()
    """Which stanza under an expression serves a domain that has none of its own."""
    made: Mapping[str, MadeDomain] = {}
    """Those of ``domains`` that were made for apps, by name."""
    channel_loggers: tuple[EventLogSettings, ...]
    mainlog: tuple[EventLogSettings, ...]
    """At least one."""
    rejectlog: tuple[EventLogSettings, ...]
    token_loggers: tuple[EventLogSettings, ...] = ()
    webhooks: tuple[WebhookSettings, ...] = ()
    opentelemetry: TelemetrySettings | None = None
    """None: no message has a trace."""
    control_socket: Path
    run_as: RunAs | None = None
    """None: the engine stays who started it."""
    intake: IntakeSettings = IntakeSettings()
    monitor: MonitorSettings = MonitorSettings()
    gateways: tuple[GatewaySettings, ...] = ()
    http: HttpSettings = HttpSettings()
    pyapns: tuple[PyapnsSettings, ...] = ()
    propeller: tuple[PropellerSettings, ...] = ()
    beanstalkd: tuple[BeanstalkdSettings, ...] = ()
    xmpp: tuple[XmppSettings, ...] = ()
    max_deliveries_per_message: int = 10_000
    max_resident_messages: int = 32_768
    drain_timeout: float = 20.0

    @property
    def addresses(self) -> tuple[AddressSettings, ...]:
        """Everything that is listened on: ``listen``, the gateways, the feedback services of those that have one,
        the doors for requests, HTTP. A connection is known by its address' index in here."""
        first = addresses_of(self.listen, self.gateways)
        return (*first, *self.request_addresses, *addresses_of((), (), self.http))

    @property
    def request_addresses(self) -> tuple[AddressSettings, ...]:
        """The doors for requests of older push servers' clients."""
        return (
            *[AddressSettings(one.host, one.port, "pyapns.listen", "pyapns") for one in self.pyapns],
            *[AddressSettings(one.host, one.port, "propeller.listen", "propeller") for one in self.propeller],
        )

    def domain(self, name: str) -> DomainSettings | None:
        """The stanza that applies to a routing domain: its own, else the first expression that matches, else ``*``."""
        return self.domains.get(name) or self.domains.get(self.patterns.stanza_of(name))

    @property
    def exact_domains(self) -> tuple[str, ...]:
        """The routing domains that have a stanza of their own."""
        return tuple(name for name in self.domains if name != "*" and not name.startswith("/"))

    @property
    def loggers(self) -> tuple[EventLogSettings, ...]:
        """Every log file."""
        return (*self.channel_loggers, *self.mainlog, *self.rejectlog, *self.token_loggers)

    def connections_of(self, stanza: str) -> int:
        """``max_outbound_connections`` of the stanza of that name; 0 where there is none."""
        domain = self.domains.get(stanza)
        return 0 if domain is None else domain.max_outbound_connections


def addresses_of(
    listen: tuple[ListenSettings, ...], gateways: tuple[GatewaySettings, ...], http: HttpSettings | None = None
) -> tuple[AddressSettings, ...]:
    """Of ``Settings.addresses`` those of mail, of the gateways and of HTTP."""
    return (
        *[AddressSettings(one.host, one.port, "esmtp_listener.listen", "SMTP", one.proxy_protocol) for one in listen],
        *[AddressSettings(one.host, one.port, "apns_gateway.listen", "apns gateway") for one in gateways],
        *[AddressSettings(*one.feedback, "apns_gateway.listen", "apns feedback") for one in gateways if one.feedback],
        *[AddressSettings(one.host, one.port, "http_listener.listen", "HTTP") for one in (http.listen if http else ())],
    )
