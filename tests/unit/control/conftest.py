from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcmt.spool.sqlite import SqliteSpool
from tests.unit.control.stand_ins import Running, running


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    spool = await SqliteSpool.open(tmp_path / "spool")
    yield spool
    await spool.close()


@pytest.fixture
async def control(tmp_path: Path, spool: SqliteSpool) -> AsyncIterator[Running]:
    async with running(tmp_path / "control.sock", spool) as it:
        yield it
