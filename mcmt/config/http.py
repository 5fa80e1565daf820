"""``http_listener``: the addresses of the HTTP API and who may use it, read into HttpSettings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final

from mcmt.config.channel_schema import FindingSchema
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.listeners import read_place
from mcmt.config.patterns import patterns_among
from mcmt.config.schema import HttpAddressStanza, HttpStanza, HttpTokenStanza
from mcmt.config.settings import (
    INTAKE_COPIES,
    AddressSettings,
    DomainSettings,
    HttpAddressSettings,
    HttpSettings,
    HttpTokenSettings,
)
from mcmt.message.address import routing_name

STANZA: Final = "http_listener"
_LISTEN: Final[Path] = (STANZA, "listen")
_TOKENS: Final[Path] = (STANZA, "tokens")
_is_hash = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
_is_name = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch

CheckHttp = Callable[[HttpAddressSettings], Sequence[FindingSchema]]
"""Opens what an address names (certificate, key) and says what was found. Never raises."""


def read_http(
    checker: Checker,
    domains: Mapping[str, DomainSettings],
    taken: Sequence[AddressSettings],
    memory: int,
    check_http: CheckHttp | None = None,
) -> HttpSettings:
    """Every address and token that is right; none without the stanza. *taken*: the addresses of other doors. *memory*:
    bytes of ``max_intake_bytes`` of one process."""
    if STANZA not in checker.data:
        return HttpSettings()
    given = checker.mapping((STANZA,), checker.data[STANZA])
    known = HttpStanza.model_fields
    for option in given.keys() - known.keys() - {"listen", "tokens"}:
        elsewhere = dict.fromkeys(HttpAddressStanza.model_fields, f"it belongs to an address below {STANZA}.listen")
        elsewhere |= dict.fromkeys(HttpTokenStanza.model_fields, f"it belongs to a token below {STANZA}.tokens")
        checker.unknown((STANZA, option), (), {"listen", "tokens", *known}, elsewhere)
    stanza, _ = checker.stanza(HttpStanza, (STANZA,), {key: value for key, value in given.items() if key in known})
    places = {f"{one.host or ''}:{one.port} of {one.option.partition('.')[0]}": (one.host, one.port) for one in taken}
    found: list[HttpAddressSettings] = []
    entries = checker.mapping(_LISTEN, given.get("listen"))
    if not entries:
        checker.fault(_LISTEN, 'there is no address to listen on; add one such as "127.0.0.1:8025": {}', key=True)
    for address, options in entries.items():
        settings = _read_address(checker, (*_LISTEN, address), address, options, places, memory)
        if settings is None:
            continue
        found.append(settings)
        if settings.tls_certificate is not None and check_http is not None:
            for finding in check_http(settings):
                note = checker.fault if finding.fault else checker.warn if finding.warning else checker.find
                note((*_LISTEN, address, finding.option), finding.text)
    tokens = _read_tokens(checker, domains, checker.mapping(_TOKENS, given.get("tokens")))
    if not tokens and not checker.faults:
        checker.fault(_TOKENS, "there are no tokens, so nobody could use it; make one with: mcmt apikey NAME", key=True)
    if stanza is None:
        return HttpSettings()
    return HttpSettings(listen=tuple(found), tokens=tokens, status_retention=stanza.status_retention)


def _read_address(
    checker: Checker,
    path: Path,
    address: str,
    options: object,
    taken: dict[str, tuple[str | None, int]],
    memory: int,
) -> HttpAddressSettings | None:
    stanza, wrong = checker.stanza(HttpAddressStanza, path, options)
    place = read_place(checker, path, address, taken, key=True)
    if stanza is None or place is None:
        return None
    if stanza.tls_certificate is None and "tls_certificate" not in wrong:
        if stanza.tls_key is not None:
            checker.fault((*path, "tls_key"), "needs tls_certificate, the certificate that it belongs to", key=True)
        if not _is_loopback(place[0]):
            text = "is not this machine alone and has no tls_certificate: tokens and messages go over the net in clear"
            checker.warn(path, text, key=True)
    if (needed := INTAKE_COPIES * stanza.max_message_size) > memory:
        checker.fault(
            (*path, "max_message_size"),
            f"a message of {stanza.max_message_size} bytes needs {needed} bytes of esmtp_listener.max_intake_bytes, "
            f"and there are {memory}, so that it would never fit; change one",
        )
    values = {option: getattr(stanza, option) for option in HttpAddressStanza.model_fields}
    return HttpAddressSettings(host=place[0], port=place[1], **values)


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or (host is not None and ip_address(host).is_loopback)
    except ValueError:
        return False


def _read_tokens(
    checker: Checker, domains: Mapping[str, DomainSettings], given: Mapping[str, object]
) -> Mapping[str, HttpTokenSettings]:
    tokens: dict[str, HttpTokenSettings] = {}
    patterns = patterns_among(domains)
    for name, options in given.items():
        path = (*_TOKENS, name)
        if not _is_name(name):
            checker.fault(path, "expected a name of up to 64 letters, digits, dots, dashes and underscores", key=True)
        stanza, wrong = checker.stanza(HttpTokenStanza, path, options)
        if stanza is None or "hash" in wrong:
            continue
        if not _is_hash(stanza.hash):
            checker.fault((*path, "hash"), "expected sha256: and 64 hex digits, as mcmt apikey prints it")
        if (other := tokens.get(stanza.hash)) is not None:
            checker.fault((*path, "hash"), f"is that of {other.name} too; make each a token of its own")
        for number, domain in enumerate(stanza.domains or ()):
            name_of = routing_name(domain)
            if name_of not in domains and patterns.stanza_of(name_of) not in domains:
                text = f"there is no domain {domain}; give it a stanza below domain"
                checker.fault((*path, "domains", number), text)
        tokens[stanza.hash] = HttpTokenSettings(
            name=name,
            scopes=frozenset(stanza.scopes),
            domains=None if stanza.domains is None else frozenset(map(routing_name, stanza.domains)),
        )
    return tokens
