"""``esmtp_listener``: the addresses on which mail is taken, read into ListenSettings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Any

from mcmt.config.channel_schema import Channels, FindingSchema
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.schema import ELSEWHERE, ListenerStanza, ListenStanza
from mcmt.config.settings import INTAKE_COPIES, DomainSettings, IntakeSettings, ListenSettings

_STANZA = "esmtp_listener"
_LISTEN: Path = (_STANZA, "listen")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})", re.ASCII)


_HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "relay_hosts": "lets everyone submit mail without a password",
        "authorized_xclient_hosts": "lets everyone say that he is somebody else, logged in or in relay_hosts",
        "proxy_protocol": "lets everyone say that he is somebody else, in relay_hosts for example",
    }
)
"""Options that name hosts, and what is told of one that names all."""

CheckListen = Callable[[ListenSettings], Sequence[FindingSchema]]
"""Opens what an address names (certificate, key, users) and says what was found. Never raises."""


def read_listeners(
    checker: Checker,
    channels: Channels,
    domains: Mapping[str, DomainSettings],
    check_listen: CheckListen | None = None,
    workers: int = 1,
    others: Collection[str] = (),
) -> tuple[tuple[ListenSettings, ...], IntakeSettings]:
    """Every address that is right, and what holds over all of them; what is wrong is noted in *checker*. *others*: the
    stanzas of the other doors, of which one will do."""
    listener = checker.mapping((_STANZA,), checker.data.get(_STANZA))
    intake = _read_intake(checker, listener)
    entries = checker.mapping(_LISTEN, listener.get("listen"))
    if not entries and not checker.data.keys() & set(others):
        text = 'there is no address to listen on; add one such as "127.0.0.1:2525": {}'
        doors = ", ".join(sorted(others))
        checker.fault(_LISTEN, f"nothing takes messages: {text}, or another door: {doors}", key=True)
    found: dict[str, ListenSettings] = {}
    for address, options in entries.items():
        path = (*_LISTEN, address)
        stanza, wrong = checker.stanza(ListenStanza, path, options)
        try:
            host, port = parse_address(address)
        except ValueError as error:
            checker.fault(path, str(error), key=True)
            continue
        if stanza is None:
            continue
        values = {option: getattr(stanza, option) for option in ListenStanza.model_fields}
        values.update({option: tuple(values[option]) for option in _HOSTS})
        values["discard_ehlo_keywords"] = frozenset(stanza.discard_ehlo_keywords)
        settings = ListenSettings(host=host, port=port, **values)
        for other, taken in found.items():
            if overlap((host, port), (taken.host, taken.port)):
                checker.fault(path, f"{other} already takes this address and port; keep one of the two", key=True)
        found[address] = settings
        _check_security(checker, path, settings, frozenset(wrong), check_listen)
        _check_sizes(checker, path, settings, intake, workers)
        _warn(checker, path, settings, channels, domains)
    return tuple(found.values()), intake


def _read_intake(checker: Checker, listener: Mapping[str, Any]) -> IntakeSettings:
    known = ListenerStanza.model_fields
    for option in listener.keys() - known.keys() - {"listen"}:
        checker.unknown((_STANZA, option), ListenerStanza.NOT_AVAILABLE, {"listen", *known}, ELSEWHERE)
    given = {option: value for option, value in listener.items() if option in known}
    stanza, _ = checker.stanza(ListenerStanza, (_STANZA,), given)
    return IntakeSettings(**{option: getattr(stanza, option) for option in known} if stanza else {})


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


def overlap(one: tuple[str | None, int], other: tuple[str | None, int]) -> bool:
    """Whether the second bind of two hosts and ports would fail: the same port on an address that the first covers."""
    (host, port), (other_host, other_port) = one, other
    if port != other_port or port == 0:
        return False
    if host is None or other_host is None or host == other_host:
        return True
    try:
        first, second = ip_address(host), ip_address(other_host)
    except ValueError:
        return False  # a name: the system will tell
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def read_place(
    checker: Checker, path: Path, text: str, taken: dict[str, tuple[str | None, int]], *, key: bool = False
) -> tuple[str | None, int] | None:
    """Host and port of the address *text* at *path*, which *taken* has from now on; None: it is none."""
    try:
        place = parse_address(text)
    except ValueError as error:
        checker.fault(path, str(error), key=key)
        return None
    for other, its in taken.items():
        if overlap(place, its):
            checker.fault(path, f"{other} already takes this address and port; keep one of the two", key=key)
    taken.setdefault(text, place)
    return place


def _check_security(
    checker: Checker, path: Path, listen: ListenSettings, wrong: frozenset[str | int], check_listen: CheckListen | None
) -> None:
    # A wrong option is absent here: nothing can be said about what depends on it.
    if listen.tls_certificate is None and "tls_certificate" not in wrong:
        for option, text in (
            ("tls_key", "needs tls_certificate, the certificate that it belongs to"),
            ("users_file", "needs tls_certificate: passwords are taken over TLS only"),
            ("require_tls", "needs tls_certificate"),
        ):
            if getattr(listen, option):
                checker.fault((*path, option), text, key=True)
    if check_listen is None or wrong & {"tls_certificate", "tls_key", "users_file"}:
        return
    for finding in check_listen(listen):
        note = checker.fault if finding.fault else checker.warn if finding.warning else checker.find
        note((*path, finding.option), finding.text)


def _check_sizes(checker: Checker, path: Path, listen: ListenSettings, intake: IntakeSettings, workers: int) -> None:
    needed = INTAKE_COPIES * listen.max_message_size
    if needed > intake.max_intake_bytes // workers:
        among = f" for {workers} workers" if workers > 1 else ""
        checker.fault(
            (*path, "max_message_size"),
            f"a message of {listen.max_message_size} bytes needs {needed} bytes of memory, and "
            f"esmtp_listener.max_intake_bytes is {intake.max_intake_bytes}{among}, "
            "so that it would never fit; change one",
        )


def _warn(
    checker: Checker, path: Path, listen: ListenSettings, channels: Channels, domains: Mapping[str, DomainSettings]
) -> None:
    rendered = [name for name, domain in domains.items() if channels[domain.delivery_method].MEDIA_TYPES]
    if rendered and listen.mcmt_reception == "passthru":
        checker.warn(
            (*path, "mcmt_reception"),
            f"is passthru, so a message for {rendered[0]} would be refused with 554 5.6.1; set it to allow",
            key=True,
        )
    if not listen.relay_hosts and listen.users_file is None:
        checker.warn((*path, "relay_hosts"), "is empty and there is no users_file, so nobody may submit mail here")
    for option, everyone in _HOSTS.items():
        if any(network.prefixlen == 0 for network in getattr(listen, option)):
            checker.warn((*path, option), everyone)
