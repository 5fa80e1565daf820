"""Credentials once a session, a clock moved by hand, and simulators that end with their test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from mcmt.clock import Timer
from mcmt.simulator.apns import ApnsSimulator
from mcmt.simulator.credentials import Credentials, make_credentials

from .client import Client, provider_token


class MovedClock:
    """Wall time moved by hand; timers are the loop's."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


class HeldClock(MovedClock):
    """Its timers wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[HeldTimer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self._held.append(HeldTimer(callback))
        return self._held[-1]

    def let_go(self) -> None:
        held, self._held = self._held, []
        for timer in held:
            if not timer.cancelled:
                timer.callback()


@dataclass
class HeldTimer:
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return make_credentials(tmp_path_factory.mktemp("credentials") / "set", ["com.example.app", "com.example.other"])


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def bearer(credentials: Credentials, clock: MovedClock) -> str:
    return provider_token(credentials, clock.time())


class Simulate(Protocol):
    async def __call__(self, **options: Any) -> ApnsSimulator: ...


class Connect(Protocol):
    async def __call__(self, simulator: ApnsSimulator, certificate: bool = False) -> Client: ...


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def simulate(stack: AsyncExitStack, credentials: Credentials, clock: MovedClock) -> Simulate:
    async def start(**options: Any) -> ApnsSimulator:
        given: dict[str, Any] = {"tls": credentials, "clock": clock}
        return await stack.enter_async_context(ApnsSimulator(**(given | options)))

    return start


@pytest.fixture
def connect(stack: AsyncExitStack, credentials: Credentials) -> Connect:
    async def open_client(simulator: ApnsSimulator, certificate: bool = False) -> Client:
        return await stack.enter_async_context(Client(simulator, credentials, certificate))

    return open_client
