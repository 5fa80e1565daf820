from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.support import Configuration


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return Configuration(tmp_path)
