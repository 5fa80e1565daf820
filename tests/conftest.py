"""What several tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.tls import Certificates, make_certificates


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True)  # of xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Parts:
    """With several processes (``-n 3``): see Parts."""
    return Parts(config, log)


class Parts(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """All unit tests are one process's, and each file of the others is one's: it shares servers among its tests, and is
    played in its order. Who has ended a file gets the next."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "unit" if file.startswith("tests/unit/") else file


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate for localhost, a client's."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
