"""Listeners that end with the test."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mcmt.intake.passwords import StoredPassword
from tests.support.tls import Certificates, make_certificates
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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def cheap(password: str) -> StoredPassword:
    """A stored password that costs nothing to verify."""
    digest = hashlib.scrypt(password.encode(), salt=b"salt", n=2, r=1, p=1, dklen=32)
    return StoredPassword(2, 1, 1, b"salt", digest)


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    """``app`` with the password ``secret``."""
    file = tmp_path / "users"
    file.write_text(f"app:{cheap('secret')}\n")
    file.chmod(0o600)
    return file
