"""Connections passed from the supervisor, which accepted them, to the worker that speaks on them (unix(7), SCM_RIGHTS).

One datagram is one connection: the number of the listening address, whom it was counted for and, if it is to be
turned away, the reply.

Rules: neither end waits; what cannot be passed now stays with whoever has it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import msgspec

from mcmt.errors import MessageError

_DATAGRAM = 4096
_AT_ONCE = 64
_BUFFER = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, tuple[int, str, str] | None]).decode

Taken = Callable[[int, socket.socket, str, MessageError | None], None]
"""Takes a connection: the number of its address, whom it was counted for (``client_of``), and what its client is told
instead of a greeting."""


def passing_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends, for a supervisor and its worker."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        end.setblocking(False)
    return ends


def pass_on(
    end: socket.socket, number: int, connection: socket.socket, address: str, refusal: MessageError | None
) -> bool:
    """Whether the worker at the other *end* has *connection* now: the caller closes its own copy. False: it is full
    or gone."""
    told = None if refusal is None else (refusal.code, refusal.enhanced, refusal.text)
    try:
        socket.send_fds(end, [_encode((number, address, told))], [connection.fileno()])
    except OSError:
        return False
    return True


class Receiver:
    """The worker's end."""

    def __init__(self, end: socket.socket, taken: Taken) -> None:
        self._end = end
        self._taken = taken
        self._loop = asyncio.get_running_loop()
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._end.fileno())
        self._end.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._end, _DATAGRAM, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._loop.remove_reader(self._end.fileno())  # the supervisor is gone, and so are we soon
                return
            number, address, told = _decode(data)
            if descriptors:
                connected = socket.socket(fileno=descriptors[0])
                connected.setblocking(False)
                self._taken(number, connected, address, None if told is None else MessageError(*told))
