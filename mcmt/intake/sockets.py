"""Listening sockets, made apart from whoever accepts on them.

Rules: a socket returned is listening already: with SO_REUSEADDR two processes could bind the same port, and only
listen(2) tells them apart. IPv6 sockets are IPv6 only, so that "0.0.0.0" and "::" stand beside each other.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from mcmt.config.settings import AddressSettings
from mcmt.errors import ListenError
from mcmt.intake import limits

_ADVICE: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another port, or give the right",
        errno.EADDRNOTAVAIL: "this machine has no such address: see `ip address`",
        errno.EAFNOSUPPORT: "this machine does not speak that address family: name an address of the other one",
    }
)
_PORT_TRIES = 8


Bind = Callable[[Sequence[AddressSettings]], list[list[socket.socket]]]
"""``bind_all``, or what has bound them before."""


def bind_all(listen: Sequence[AddressSettings]) -> list[list[socket.socket]]:
    """``bind_sockets`` of each address. Raises ListenError, with none left open."""
    bound: list[list[socket.socket]] = []
    try:
        for one in listen:
            bound.append(bind_sockets(one))  # noqa: PERF401 - what was bound is closed when one fails
    except BaseException:
        for sockets in bound:
            for listening in sockets:
                listening.close()
        raise
    return bound


def bind_sockets(listen: AddressSettings) -> list[socket.socket]:
    """One listening socket for each address that *listen* stands for. Raises ListenError, with none left open."""
    sockets: list[socket.socket] = []
    for attempt in range(_PORT_TRIES):
        try:
            port = listen.port
            for family, host in _addresses(listen):
                sockets.append(_bind(family, host, port, listen.option))
                # Port 0: the first socket gets one from the system, the others the same.
                port = sockets[-1].getsockname()[1]
        except ListenError as error:
            for bound in sockets:
                bound.close()
            taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
            if listen.port or not sockets or not taken or attempt + 1 == _PORT_TRIES:
                raise
            sockets = []
        else:
            return sockets
    raise AssertionError("unreachable: the last try raises")


def _addresses(listen: AddressSettings) -> list[tuple[socket.AddressFamily, str]]:
    if listen.host is None:
        every = [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - asked for: every address
        return [*every, (socket.AF_INET6, "::")] if _has_ipv6() else every
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {listen.host}: {error.strerror or error}; name an IP address") from error
    return list(dict.fromkeys((family, _host(sockaddr)) for family, _, _, _, sockaddr in found))


def _host(sockaddr: tuple[str | int, ...] | tuple[int, bytes]) -> str:
    return str(sockaddr[0])


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _bind(family: socket.AddressFamily, host: str, port: int, option: str) -> socket.socket:
    bound: socket.socket | None = None
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        # A restart must not wait for the old connections' TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen(limits.BACKLOG)
        bound.setblocking(False)
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        advice = _ADVICE.get(number or 0, "choose another address")
        raise ListenError(f"cannot listen on {place}: {reason}; {advice} ({option})") from error
    return bound
