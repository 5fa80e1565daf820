"""What the tests here share: the shim, and a gateway that answers everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.disk import build_shim
from tests.support.engine_process import apn_domain
from tests.support.peers import nginx
from tests.support.tls import Certificates


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def stanza(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[dict[str, Any]]:
    """The domain's, for a gateway that answers 200."""
    with nginx(tmp_path_factory.mktemp("nginx"), certificates) as peer:
        yield apn_domain(peer.port, certificates)
