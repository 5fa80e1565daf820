"""The options of an ``apn`` domain, and what can be known about them before the first push.

A domain has one credential: a provider token (``apn_auth_key`` with its ids) or a certificate (``tls_certificate``
with its key). What the files behind them say is read in credentials.py; here it is held against the other options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mcmt.channel.port import Finding, Needs, exposure
from mcmt.clock import Clock, SystemClock
from mcmt.message.route import Route, parse_route
from mcmt.options import WORD, FilePath, Milliseconds, OptionsModel, Seconds

from .credentials import Credential, CredentialError, check_signing_key, read_authorities, read_certificate

_TLS_ALWAYS = "connections to Apple are always encrypted; tls_verify says how the gateway is verified"
_WARN_DAYS = 30
_MAX_STORED = 30 * 86400.0
"""Seconds: Apple stores a notification no longer (Sending notification requests to APNs)."""
_SHORT_ANSWER = 1.0
_RESPONSE_TIMEOUT = 30.0
_BINARY_RESPONSE_TIMEOUT = 5.0
FEEDBACK_SCHEME = "apn-feedback"
_RETIRED_FEEDBACK = frozenset({"feedback.push.apple.com", "feedback.sandbox.push.apple.com"})
_SHORT_INTERVAL = 60.0
_ID = re.compile(r"[A-Z0-9]{10}")
_LONGEST_SHOWN = 40
_KEY_FILE = re.compile(r"AuthKey_([A-Z0-9]{10})\.p8")
"""As Apple names the file when it is downloaded."""


def _feedback_route(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected a route such as apn-feedback://gateway.example.com")
    route = parse_route(value)
    if route.scheme != FEEDBACK_SCHEME:
        raise ValueError(f"expected {FEEDBACK_SCHEME}://host[:port]")
    return route


class FeedbackOptions(OptionsModel):
    """``feedback``: the service of a gateway of the binary protocol that tells which tokens are gone."""

    route: Annotated[Any, BeforeValidator(_feedback_route)]
    interval: Annotated[Seconds, Field(gt=0)] = 86400.0


class Options(OptionsModel):
    """Beside the engine's own. Names and units are Momentum's where Momentum has them."""

    IGNORED: ClassVar[Mapping[str, str]] = {
        "tls": _TLS_ALWAYS,
        "tls_ciphers": "HTTP/2 names the cipher suites that may be used (RFC 9113 9.2.2)",
    }
    RETIRED_HOSTS: ClassVar[Mapping[str, str]] = {
        "gateway.push.apple.com": "api.push.apple.com:443",
        "gateway.sandbox.push.apple.com": "api.sandbox.push.apple.com:443",
    }

    tls_certificate: FilePath | None = None
    """PEM, with the chain if there is one, and with the key where ``tls_key`` is not given."""
    tls_key: FilePath | None = None
    apn_auth_key: FilePath | None = None
    """Apple's .p8 file."""
    apn_key_id: str | None = None
    apn_team_id: str | None = None
    apn_topic: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]{1,255}$")
    """The apns-topic of messages that give none."""
    apn_expiry: Seconds = 604800.0
    """The apns-expiration of messages that give none, counted from their reception; 0: now or never."""
    tls_verify: Annotated[Literal["no", "ca", "host"], WORD] = "host"
    tls_ca: FilePath | None = None
    """PEM; None: the system's authorities."""
    delivery_response_timeout: Annotated[Milliseconds, Field(gt=0)] | None = None
    """How long an answer may take; over the binary protocol how long silence lasts until it means delivered. None: what
    ``response_timeout`` says."""
    apn_window: Annotated[int, Field(ge=1)] = 20_000
    """Frames that may be sent and not confirmed on one connection of the binary protocol."""
    feedback: FeedbackOptions | None = None
    """None: no such service is asked."""

    def response_timeout(self, *, binary: bool) -> float:
        """Seconds, for routes of that protocol."""
        if self.delivery_response_timeout is not None:
            return self.delivery_response_timeout
        return _BINARY_RESPONSE_TIMEOUT if binary else _RESPONSE_TIMEOUT


def check(options: Options, routes: Sequence[Route], clock: Clock | None = None) -> Sequence[Finding]:
    """What was found about a domain's options and in the files that they name; see mcmt.channel.port.Channel."""
    now = (clock or SystemClock()).time()
    return (
        *_credentials(options, routes, now),
        *_verification(options),
        *_times(options, routes),
        *_routes(routes),
        *_feedback(options),
    )


def is_binary(route: Route) -> bool:
    """Whether the route's gateway is spoken to in the binary protocol."""
    return dict(route.parameters).get("protocol") == "binary"


def needs(options: Options, routes: Sequence[Route]) -> Needs:
    """See mcmt.channel.port.Needs."""
    own_domain = "" if options.feedback is None else "feedback"
    if not any(map(is_binary, routes)):
        return Needs(own_domain=own_domain)
    # Momentum's rule: a connection must not be given up while silence on it still means something.
    return Needs(options.response_timeout(binary=True), options.apn_window, own_domain)


def _warning(option: str, text: str) -> Finding:
    return Finding(option, text, warning=True)


def _fault(option: str, text: str) -> Finding:
    return Finding(option, text, fault=True)


def _credentials(options: Options, routes: Sequence[Route], now: float) -> Iterator[Finding]:
    certificate = [name for name in ("tls_certificate", "tls_key") if getattr(options, name) is not None]
    token = [name for name in ("apn_auth_key", "apn_key_id", "apn_team_id") if getattr(options, name) is not None]
    if certificate and token:
        yield _fault(
            token[0],
            f"stands beside {certificate[0]}: a domain has a certificate or a provider token, not both; remove one "
            "(or set it to null where it is a default of all domains)",
        )
    if not certificate and not token:
        yield _fault(
            "",
            "has no credential; give apn_auth_key, apn_key_id and apn_team_id (provider token), "
            "or tls_certificate and tls_key",
        )
    for route in routes if token and not certificate else ():
        if is_binary(route):
            yield _fault(
                token[0],
                f"{route}: the binary protocol has no provider tokens; give tls_certificate and tls_key in its place",
            )
    # The binary protocol sends no topic: it is the certificate's.
    sends_topic = not routes or not all(map(is_binary, routes))
    if certificate:
        yield from _certificate(options, now, sends_topic=sends_topic)
    if token:
        yield from _provider_token(options)


def _certificate(options: Options, now: float, *, sends_topic: bool) -> Iterator[Finding]:
    if options.tls_certificate is None:
        yield _fault("tls_key", "needs tls_certificate, the certificate that it belongs to")
        return
    try:
        credential = read_certificate(options.tls_certificate, options.tls_key)
    except CredentialError as error:
        yield _fault("tls_key" if error.about_key and options.tls_key else "tls_certificate", str(error))
        return
    yield Finding("tls_certificate", credential.summary(now))
    yield from _dates(credential, now)
    yield from exposure("tls_key" if options.tls_key else "tls_certificate", credential.key_file)
    if not sends_topic:
        return
    if not options.apn_topic and not credential.topics:
        yield _warning("apn_topic", "is not set and the certificate names none: every message has to bring apns-topic")
    elif not options.apn_topic and len(credential.topics) > 1:
        yield _warning("apn_topic", "is not set and the certificate has several: every message has to bring apns-topic")
    elif options.apn_topic and credential.topics and options.apn_topic not in credential.topics:
        yield _fault(
            "apn_topic", f"the certificate is not for {options.apn_topic} but for {', '.join(credential.topics)}"
        )


def _dates(credential: Credential, now: float) -> Iterator[Finding]:
    # Warnings: a file that nobody touched must not keep the engine, and with it every other domain, from starting.
    # Apple refuses the certificate, which suspends the route; its mail is kept.
    days = credential.days_left(now)
    if now < credential.not_before:
        yield _warning(
            "tls_certificate", "is not valid yet, and Apple refuses it; compare this machine's clock, or wait"
        )
    elif days < 0:
        yield _warning("tls_certificate", "has expired, and Apple refuses it; have a new one made")
    elif days < _WARN_DAYS:
        yield _warning("tls_certificate", f"expires in {days:.0f} days; have a new one made")


def _provider_token(options: Options) -> Iterator[Finding]:
    if options.apn_auth_key is None:
        yield _fault("apn_key_id" if options.apn_key_id else "apn_team_id", "needs apn_auth_key, Apple's .p8 file")
    else:
        try:
            check_signing_key(options.apn_auth_key)
        except CredentialError as error:
            yield _fault("apn_auth_key", str(error))
        else:
            yield Finding("apn_auth_key", f"provider token: P-256 key in {options.apn_auth_key}")
            yield from exposure("apn_auth_key", options.apn_auth_key)
        named = _KEY_FILE.fullmatch(options.apn_auth_key.name)
        if named and options.apn_key_id and named[1] != options.apn_key_id:
            yield _warning("apn_key_id", f"is {options.apn_key_id}, but the file's name says {named[1]}")
    for option, value in (("apn_key_id", options.apn_key_id), ("apn_team_id", options.apn_team_id)):
        if value is None:
            yield _fault(option, "is missing: a provider token names its key and its team")
        elif not _ID.fullmatch(value):
            shown = f", got {value!r}" if len(value) <= _LONGEST_SHOWN else ""  # longer, it may be the key itself
            yield _fault(option, f"expected 10 capital letters and digits{shown}")
    if not options.apn_topic:
        yield _warning("apn_topic", "is not set: every message has to bring apns-topic")


def _verification(options: Options) -> Iterator[Finding]:
    if options.tls_verify == "no":
        yield _warning("tls_verify", "is no: whoever answers at the route's address is taken for Apple")
        if options.tls_ca is not None:
            yield _warning("tls_ca", "has no effect while tls_verify is no")
    if options.tls_ca is not None:
        try:
            read_authorities(options.tls_ca)
        except CredentialError as error:
            yield _fault("tls_ca", str(error))


def _times(options: Options, routes: Sequence[Route]) -> Iterator[Finding]:
    if options.apn_expiry > _MAX_STORED:
        yield _warning("apn_expiry", "is more than 30 days; Apple stores a notification no longer than that")
    if options.delivery_response_timeout is not None and options.delivery_response_timeout < _SHORT_ANSWER:
        late = "a push whose error comes later is logged as delivered"
        if not any(map(is_binary, routes)):
            late = "a push whose answer comes later is sent again"
        yield _warning("delivery_response_timeout", f"is less than a second: {late}")


def _routes(routes: Sequence[Route]) -> Iterator[Finding]:
    for route in routes:
        for name, value in route.parameters:
            if name != "protocol":
                yield _fault(
                    "routes", f"{route.scheme}://{route.host} has an unknown option {name}; there are: port, protocol"
                )
            elif value == "binary":
                if route.host in Options.RETIRED_HOSTS:
                    yield _warning(
                        "routes",
                        f"{route.host} has been switched off by Apple: this works where the name leads to a gateway of "
                        f"your own; Apple's is {Options.RETIRED_HOSTS[route.host]} without protocol",
                    )
            elif value != "http2":
                yield _fault("routes", f"{route}: there is no protocol {value!r}; expected http2 or binary")
            elif route.host in Options.RETIRED_HOSTS:
                yield _fault("routes", f"{route.host} has been switched off; use {Options.RETIRED_HOSTS[route.host]}")


def _feedback(options: Options) -> Iterator[Finding]:
    if options.feedback is None:
        return
    route = options.feedback.route
    for name, _ in route.parameters:
        yield _fault("feedback", f"{route.scheme}://{route.host} has an unknown option {name}; there is: port")
    if route.host in _RETIRED_FEEDBACK:
        yield _fault("feedback", f"{route.host} has been switched off by Apple; a push to a gone token tells the same")
    if options.tls_certificate is None:
        yield _warning("feedback", "is asked without a client certificate, by which such services know the app")
    if options.feedback.interval < _SHORT_INTERVAL:
        yield _warning("feedback", "is asked more than once a minute")
