"""What several tests share."""

from __future__ import annotations

import pytest

from tests.support.tls import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate for localhost, a client's."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
