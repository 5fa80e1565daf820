"""``apns_gateway``: the addresses on which senders of Apple's binary protocol are served, read into GatewaySettings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from mcmt.config.channel_schema import Channels, FindingSchema
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.listeners import read_place
from mcmt.config.patterns import patterns_among
from mcmt.config.schema import GatewayStanza
from mcmt.config.settings import GATEWAY_READ, INTAKE_COPIES, DomainSettings, GatewaySettings, ListenSettings
from mcmt.message.address import routing_name
from mcmt.message.failure import is_mailbox

STANZA: Final = "apns_gateway"
_LISTEN: Final[Path] = (STANZA, "listen")
MEDIA_TYPE: Final = "message/vnd.msys.apn"
"""What a notification is as a part of a message."""
# A certificate's SHA-256 as tools write it: openssl with colons and capital letters.
_is_fingerprint = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}").fullmatch

CheckGateway = Callable[[GatewaySettings], Sequence[FindingSchema]]
"""Opens what an address names (certificate, key, authorities) and says what was found. Never raises."""


def read_gateways(
    checker: Checker,
    channels: Channels,
    domains: Mapping[str, DomainSettings],
    listen: Sequence[ListenSettings],
    memory: int,
    check_gateway: CheckGateway | None = None,
) -> tuple[GatewaySettings, ...]:
    """Every address that is right; none without the stanza. *memory*: bytes of ``max_intake_bytes`` of one process."""
    if STANZA not in checker.data:
        return ()
    stanza = checker.mapping((STANZA,), checker.data[STANZA])
    for option in stanza.keys() - {"listen"}:
        elsewhere = dict.fromkeys(GatewayStanza.model_fields, f"it belongs to an address below {STANZA}.listen")
        checker.unknown((STANZA, option), (), {"listen"}, elsewhere)
    entries = checker.mapping(_LISTEN, stanza.get("listen"))
    if not entries:
        checker.fault(_LISTEN, 'there is no address to listen on; add one such as "127.0.0.1:2195": {...}', key=True)
    elif (needed := INTAKE_COPIES * GATEWAY_READ) > memory:
        checker.fault(
            (STANZA,), f"needs {needed} bytes of esmtp_listener.max_intake_bytes, and there are {memory}", key=True
        )
    taken: dict[str, tuple[str | None, int]] = {
        f"{one.host or ''}:{one.port} of esmtp_listener": (one.host, one.port) for one in listen
    }
    check_domain = partial(check_push_domain, checker, channels, domains)
    found: list[GatewaySettings] = []
    for address, options in entries.items():
        settings = _read(checker, (*_LISTEN, address), address, options, taken, check_domain)
        if settings is None:
            continue
        found.append(settings)
        for finding in check_gateway(settings) if check_gateway is not None else ():
            note = checker.fault if finding.fault else checker.warn if finding.warning else checker.find
            note((*_LISTEN, address, finding.option), finding.text)
    return tuple(found)


def _read(
    checker: Checker,
    path: Path,
    address: str,
    options: object,
    taken: dict[str, tuple[str | None, int]],
    check_domain: Callable[[Path, str], None],
) -> GatewaySettings | None:
    stanza, wrong = checker.stanza(GatewayStanza, path, options)
    place = read_place(checker, path, address, taken, key=True)
    if stanza is None or place is None:
        return None
    feedback = None
    if stanza.feedback is not None:
        feedback = read_place(checker, (*path, "feedback"), stanza.feedback, taken)
    if (stanza.domain is None) == (stanza.domains is None) and not wrong & {"domain", "domains"}:
        text = "give one of domain (every client's) and domains (by client)"
        checker.fault(path, f"{text}, not both" if stanza.domain else text, key=True)
    if stanza.domain is not None:
        check_domain((*path, "domain"), stanza.domain)
    return_path = stanza.return_path or ""
    if return_path and not is_mailbox(return_path):
        checker.fault((*path, "return_path"), "expected a mail address such as push@example.com")
    return GatewaySettings(
        host=place[0],
        port=place[1],
        tls_certificate=stanza.tls_certificate,
        tls_key=stanza.tls_key,
        client_ca=stanza.client_ca,
        domain=routing_name(stanza.domain or ""),
        domains=_read_clients(checker, (*path, "domains"), stanza.domains or {}, check_domain),
        feedback=feedback,
        return_path=return_path,
        idle_timeout=stanza.idle_timeout,
    )


def _read_clients(
    checker: Checker, path: Path, given: Mapping[str, str], check_domain: Callable[[Path, str], None]
) -> Mapping[str, str]:
    clients: dict[str, str] = {}
    for client, domain in given.items():
        name = client.replace(":", "").lower() if _is_fingerprint(client) else client
        if not name:
            checker.fault((*path, client), "expected a certificate's SHA-256 or its subject's UID", key=True)
        elif name in clients:
            checker.fault((*path, client), "this client is there already", key=True)
        check_domain((*path, client), domain)
        clients[name] = routing_name(domain)
    return clients


def check_push_domain(
    checker: Checker, channels: Channels, domains: Mapping[str, DomainSettings], place: Path, name: str
) -> None:
    """Note in *checker* what keeps the domain *name*, named at *place*, from being pushed to."""
    routed = routing_name(name)
    domain = domains.get(routed) or domains.get(patterns_among(domains).stanza_of(routed))
    if domain is None:
        checker.fault(place, f"there is no domain {name} to push to; give it a stanza below domain")
    elif MEDIA_TYPE not in channels[domain.delivery_method].MEDIA_TYPES:
        checker.fault(
            place, f"{name} has delivery_method: {domain.delivery_method}, which takes no push; name one that has apn"
        )
