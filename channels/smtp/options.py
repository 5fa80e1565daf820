"""The options of an ``smtp`` domain, and what can be known about them before the first mail."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from mcmt.channel.port import Finding, exposure
from mcmt.clock import Clock, SystemClock
from mcmt.errors import RouteFaultError
from mcmt.message.route import Route
from mcmt.options import WORD, FilePath, OptionsModel, Seconds

from .certificate import expires, load_authorities, load_certificate

_WARN_DAYS = 30
# RFC 5321 4.1.2: Domain, or an address literal; underscores, which machines have in practice.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*)(\.[A-Za-z0-9_]([A-Za-z0-9_-]*))*|\[[0-9A-Za-z.:]+\]")
_UNENCRYPTED = "mail to {} goes over the network in clear"


def _helo_name(value: str) -> str:
    if len(value) > 253 or not _NAME.fullmatch(value):
        raise ValueError("expected a host name such as mx.example.com")
    return value


class Options(OptionsModel):
    """Beside the engine's own."""

    OWN_NAME: ClassVar[str] = "helo_name"

    tls: Annotated[Literal["may", "must", "no"], WORD] = "may"
    """STARTTLS: where it is offered, unverified; or always, verified as ``tls_verify`` says; or never."""
    tls_verify: Annotated[Literal["no", "ca", "host"], WORD] = "host"
    tls_ca: FilePath | None = None
    """PEM; None: the system's authorities."""
    tls_certificate: FilePath | None = None
    """Our own, PEM, with the key where ``tls_key`` is not given."""
    tls_key: FilePath | None = None
    helo_name: Annotated[str, AfterValidator(_helo_name)] | None = None
    """Our name in EHLO and in Received; None: the machine's full name."""
    max_recipients_per_batch: Annotated[int, Field(ge=1)] = 100
    """Recipients of one transaction. RFC 5321 4.5.3.1.8: a server has to take 100."""
    # RFC 5321 4.5.3.2 has the least that each of these should be: 5 minutes (DATA: 2), 3 minutes, 10 minutes.
    command_timeout: Annotated[Seconds, Field(gt=0)] = 300.0
    """How long the reply to MAIL, RCPT, DATA, RSET may take."""
    data_timeout: Annotated[Seconds, Field(gt=0)] = 180.0
    """How long the server may take nothing of the content."""
    final_reply_timeout: Annotated[Seconds, Field(gt=0)] = 600.0
    """How long the reply to the final dot may take. What is given up too early arrives twice."""


def check(options: Options, routes: Sequence[Route], clock: Clock | None = None) -> Sequence[Finding]:
    """What was found about a domain's options and in the files that they name; see mcmt.channel.port.Channel."""
    now = (clock or SystemClock()).time()
    return (*_encryption(options, routes), *_authorities(options), *_certificate(options, now), *_routes(routes))


def _warning(option: str, text: str) -> Finding:
    return Finding(option, text, warning=True)


def _fault(option: str, text: str) -> Finding:
    return Finding(option, text, fault=True)


def _encryption(options: Options, routes: Sequence[Route]) -> Iterator[Finding]:
    remote = ", ".join(route.host for route in routes if not _is_this_machine(route.host))
    if options.tls == "no" and remote:
        yield _warning("tls", f"is no: {_UNENCRYPTED.format(remote)}; may encrypts where the server can")
    elif options.tls == "may" and remote:
        yield Finding("tls", f"may: {remote} is not verified, and mail goes in clear where it does not offer TLS")
    elif options.tls == "must" and options.tls_verify == "no":
        yield _warning("tls_verify", "is no: whoever answers at the route's address is taken for the smarthost")
    if options.final_reply_timeout < 60:
        yield _warning("final_reply_timeout", "is less than a minute: mail whose reply comes later is sent again")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authorities(options: Options) -> Iterator[Finding]:
    if options.tls_ca is None:
        return
    try:
        load_authorities(options.tls_ca)
    except RouteFaultError as error:
        yield _fault("tls_ca", str(error))
        return
    if options.tls != "must":
        yield _warning("tls_ca", f"has no effect while tls is {options.tls}; must verifies the server")
    elif options.tls_verify == "no":
        yield _warning("tls_ca", "has no effect while tls_verify is no")


def _certificate(options: Options, now: float) -> Iterator[Finding]:
    if options.tls_certificate is None:
        if options.tls_key is not None:
            yield _fault("tls_key", "needs tls_certificate, the certificate that it belongs to")
        return
    try:
        load_certificate(options.tls_certificate, options.tls_key)
        days = (expires(options.tls_certificate) - now) / 86400
    except RouteFaultError as error:
        yield _fault("tls_certificate", str(error))
        return
    key = "tls_key" if options.tls_key else "tls_certificate"
    yield from exposure(key, options.tls_key or options.tls_certificate)
    if options.tls == "no":
        yield _warning("tls_certificate", "has no effect while tls is no")
    elif days < 0:
        yield _warning("tls_certificate", f"expired {-days:.0f} days ago; have a new one made")
    elif days < _WARN_DAYS:
        yield _warning("tls_certificate", f"expires in {days:.0f} days; have a new one made")
    else:
        yield Finding("tls_certificate", f"valid for {days:.0f} more days")


def _routes(routes: Sequence[Route]) -> Iterator[Finding]:
    for route in routes:
        for name, _ in route.parameters:
            yield _fault("routes", f"{route.scheme}://{route.host} has an unknown option {name}; there is: port")
