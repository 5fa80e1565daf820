"""The simulated feedback service: who connects is told every token that is gone; the list is cleared by reading it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, cast

MAX_GONE: Final = 100_000
"""Tokens that wait to be told; the oldest goes first."""


class GoneList:
    """The tokens that are gone, and since when."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, since: int, token: bytes) -> None:
        """*since*: seconds since the epoch."""
        self._tokens.pop(token, None)
        self._tokens[token] = since
        if len(self._tokens) > MAX_GONE:
            self._tokens.popitem(last=False)

    def tuples(self) -> bytes:
        """All of them as they are told."""
        return b"".join(
            [since.to_bytes(4, "big") + len(token).to_bytes(2, "big") + token for token, since in self._tokens.items()]
        )

    def clear(self) -> None:
        """They were read."""
        self._tokens.clear()


class FeedbackConnection(asyncio.Protocol):
    """One reader."""

    def __init__(self, gone: GoneList, connections: set[FeedbackConnection]) -> None:
        self._gone = gone
        self._connections = connections
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done: tell everything, and close."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._transport.write(self._gone.tuples())
        self._gone.clear()
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The reader has gone."""
        self._connections.discard(self)

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()
