"""``esmtp_listener``: the addresses on which mail is taken, read into ListenSettings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from mcmt.config.channel_schema import Channels
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.schema import ELSEWHERE, ListenStanza
from mcmt.config.settings import DomainSettings, ListenSettings

_STANZA = "esmtp_listener"
_LISTEN: Path = (_STANZA, "listen")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})", re.ASCII)


def read_listeners(
    checker: Checker, channels: Channels, domains: Mapping[str, DomainSettings]
) -> tuple[ListenSettings, ...]:
    """Every address that is right; what is wrong is noted in *checker*."""
    listener = checker.mapping((_STANZA,), checker.data.get(_STANZA))
    for option in listener.keys() - {"listen"}:
        checker.unknown((_STANZA, option), ListenStanza.NOT_AVAILABLE, {"listen"}, ELSEWHERE)
    entries = checker.mapping(_LISTEN, listener.get("listen"))
    if not entries:
        checker.fault(_LISTEN, 'there is no address to listen on; add one such as "127.0.0.1:2525": {}', key=True)
    found: dict[str, ListenSettings] = {}
    for address, options in entries.items():
        path = (*_LISTEN, address)
        stanza, _ = checker.stanza(ListenStanza, path, options)
        try:
            host, port = parse_address(address)
        except ValueError as error:
            checker.fault(path, str(error), key=True)
            continue
        if stanza is None:
            continue
        settings = ListenSettings(
            host=host,
            port=port,
            mcmt_reception=stanza.mcmt_reception,
            relay_hosts=tuple(stanza.relay_hosts),
            max_message_size=stanza.max_message_size,
        )
        for other, taken in found.items():
            if _overlap(settings, taken):
                checker.fault(path, f"{other} already takes this address and port; keep one of the two", key=True)
        found[address] = settings
        _warn(checker, path, stanza, channels, domains)
    return tuple(found.values())


def parse_address(text: str) -> tuple[str | None, int]:
    """Host and port of ``127.0.0.1:2525``, ``[::1]:2525``, ``mx.example.com:25`` or ``:2525``, where the host is None:
    every address. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(
            'expected an address and a port such as "127.0.0.1:2525", "[::1]:2525" or ":2525" (every address)'
        )
    host = match["host"]
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1])), int(match["port"])
        except ValueError:
            raise ValueError(f"{host} is not an IPv6 address") from None
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(IPv4Address(host)), int(match["port"])
        except ValueError:
            raise ValueError(f"{host} is not an IPv4 address") from None
    return host.lower() or None, int(match["port"])


def _overlap(one: ListenSettings, other: ListenSettings) -> bool:
    """Whether the second bind would fail: the same port on an address that the first one covers."""
    if one.port != other.port or one.port == 0:
        return False
    if one.host is None or other.host is None or one.host == other.host:
        return True
    try:
        first, second = ip_address(one.host), ip_address(other.host)
    except ValueError:
        return False  # a name: the system will tell
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def _warn(
    checker: Checker, path: Path, stanza: ListenStanza, channels: Channels, domains: Mapping[str, DomainSettings]
) -> None:
    rendered = [name for name, domain in domains.items() if channels[domain.delivery_method].MEDIA_TYPES]
    if rendered and stanza.mcmt_reception == "passthru":
        checker.warn(
            (*path, "mcmt_reception"),
            f"is passthru, so a message for {rendered[0]} would be refused with 554 5.6.1; set it to allow",
            key=True,
        )
    if not stanza.relay_hosts:
        checker.warn((*path, "relay_hosts"), "is empty, so nobody may submit mail here")
    if any(network.prefixlen == 0 for network in stanza.relay_hosts):
        checker.warn((*path, "relay_hosts"), "lets everyone submit mail without a password")
