"""A spool in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcmt.spool.sqlite import SqliteSpool, open_spool


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    """Opened, and closed afterwards."""
    opened = await open_spool(tmp_path / "spool")
    yield opened
    await opened.close()
