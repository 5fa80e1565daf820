"""The end of an engine whose spool takes nothing any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcmt.engine.engine import EXPIRY_LIMIT
from mcmt.errors import SpoolError
from tests.support.engine_bench import Bench

from .scripted import ScriptedGateway


async def test_draining_ends_in_time_though_what_has_expired_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Bench(tmp_path, ScriptedGateway(), suspend_delivery=True) as bench:

        async def refuse(*arguments: Any) -> None:
            raise SpoolError("disk full")

        monkeypatch.setattr(bench.spool, "settle", refuse)
        await bench.accept(EXPIRY_LIMIT, life=0.0)
        await bench.wait_until(lambda: bench.engine._shared.settler.stuck)
        async with asyncio.timeout(5.0):
            await bench.engine.drain(0.2)
