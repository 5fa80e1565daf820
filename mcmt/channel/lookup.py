"""The addresses of a route's host, for channels that open sockets: looked up afresh for each connection."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl

from mcmt.errors import ConnectError

Address = tuple[str, int]
"""What ``sock_connect`` takes of either family: the host's address and the port."""


async def look_up(host: str, port: int) -> list[tuple[int, Address]]:
    """Socket family and address of each of *host*'s addresses, IPv4 and IPv6, in an order of chance.

    So several connections to one name spread over its addresses. Raises ConnectError naming the host.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode
        raise ConnectError(f"{host} cannot be looked up: {words_of(error)}") from error
    addresses = [(family, address) for family, _, _, _, address in found]
    random.shuffle(addresses)
    return addresses  # type: ignore[return-value]  # sockaddr of the two families that TCP has


def words_of(error: BaseException) -> str:
    """What *error* says, or its name where it says nothing.

    Of a system call the system's own words: asyncio's name the call and the address, which whoever tells it has named.
    """
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        # Below 0 are those of getaddrinfo.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
