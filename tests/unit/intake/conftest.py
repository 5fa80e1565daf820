"""Listeners that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.unit.intake.server import Server, start_server, stop_server

Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a listener; every one of them is drained at the end."""
    started: list[Server] = []

    async def start(**arguments: Any) -> Server:
        started.append(await start_server(**arguments))
        return started[-1]

    yield start
    for server in started:
        await stop_server(server)
