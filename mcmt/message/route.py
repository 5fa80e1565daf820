"""Where a domain's deliveries go: ``scheme://host[:port][?option=value]``."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import parse_qsl, urlsplit

import msgspec

# RFC 1123 2.1, and the underscore that names inside a company have.
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)


class Route(msgspec.Struct, frozen=True):
    """One next hop of a domain."""

    scheme: str
    host: str
    port: int | None = None
    """None: the channel's default."""
    parameters: tuple[tuple[str, str], ...] = ()
    """The query, but for ``port``."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        query = "&".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.scheme}://{host}{port}{'?' + query if query else ''}"


def parse_route(text: str) -> Route:
    """Read ``apn://host:2197`` or Momentum's ``apn://host?port=2197``. Raises ValueError saying what is wrong."""
    # What follows may be a password, and is not repeated.
    shown = repr(text.partition("?")[0].partition("#")[0])
    if "@" in text:
        raise ValueError("a route has only a host, a port and options; no name, no password")
    url = urlsplit(text)
    if not url.scheme or not url.netloc or not url.hostname:
        raise ValueError(f"expected scheme://host[:port], got {shown}")
    if url.path not in ("", "/") or url.fragment:
        raise ValueError(f"a route has only a host, a port and options: {shown}")
    if not _is_host(url.hostname):
        raise ValueError(f"{url.hostname!r} in {shown} is no host name and no address")
    parameters = dict(parse_qsl(url.query, keep_blank_values=True))
    query_port = parameters.pop("port", None)
    try:
        port = url.port if query_port is None else int(query_port)
    except ValueError:
        raise ValueError(f"the port of {shown} is not a number from 1 to 65535") from None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"the port of {shown} is not a number from 1 to 65535")
    return Route(url.scheme, url.hostname, port, tuple(sorted(parameters.items())))


def _is_host(host: str) -> bool:
    try:
        if ":" in host:
            IPv6Address(host)
            return True
        # As getaddrinfo encodes it; no label may be empty or longer than 63 octets (RFC 1035 2.3.4).
        name = host.encode("idna").decode("ascii")
    except ValueError:  # UnicodeError is one
        return False
    return len(name) <= 254 and _NAME.fullmatch(name.lower()) is not None
