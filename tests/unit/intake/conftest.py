"""Listeners that end with the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.unit.intake.server import Server, start_server, stop_server

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on both loops: they differ in how transports write, pause and close."""
    return LOOPS


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
