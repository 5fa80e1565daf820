"""A hostile network: whatever happens at one route, its deliveries come to what the table says, memory stays bounded
and the healthy route beside it is as fast as before; and each row fails when the line that defends it is taken out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.stage import BESIDE_OTHERS, NO_PROOF, NOT_ENDED, NOT_OVER, House, Result, run_apart
from tests.faults.table import ROWS
from tests.support.peers import nginx
from tests.support.tls import Certificates

SIDE_BY_SIDE = 8
"""Rows at a time: they wait more than they work."""
LONG = bool(os.environ.get("MCMT_LONG_FAULTS"))
NAMES = [name for name, row in ROWS.items() if LONG or not row.long]

Play = Callable[[str, bool], Result]


@pytest.fixture(scope="module")
def play(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Play]:
    """What a row comes to. All that were asked for are begun at once, SIDE_BY_SIDE, in their order."""
    folder = tmp_path_factory.mktemp("faults")
    with nginx(folder / "nginx", certificates) as healthy, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        house = House(certificates, healthy.port, healthy.log)
        results: dict[tuple[str, bool], Future[Result]] = {}
        for item in request.session.items:
            if item.path == request.path and isinstance(item, pytest.Function):
                name = str(item.callspec.params["name"])
                for defended in (True, False) if "without" in item.originalname else (True,):
                    if (name, defended) not in results:
                        where = folder / f"row{len(results)}"
                        results[name, defended] = pool.submit(run_apart, name, house, where, defended=defended)
        yield lambda name, defended: results[name, defended].result()
        for future in results.values():
            future.cancel()


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_at_one_route_ends_as_the_table_says_and_is_not_felt_at_the_other(name: str, play: Play) -> None:
    result = play(name, True)
    assert result.broken == []
    assert result.failures == [], f"{result.figures}\n{result.log}"


@pytest.mark.parametrize("name", NAMES)
def test_a_row_fails_without_its_defence(name: str, play: Play) -> None:
    result = play(name, False)
    if any(failure.startswith(NOT_ENDED) for failure in result.failures):
        # It spins. With its defence it has to have been over in a fraction of that time.
        assert play(name, True).figures["seconds"] < BESIDE_OTHERS / 4, "it was given too little time"
        return
    # Not by what a busy machine does to any row, nor by a process that came to nothing.
    meant = [failure for failure in result.failures if not failure.startswith((NO_PROOF, "its process"))]
    assert meant != [], f"{result.failures}\n{result.broken}\n{result.figures}\n{ROWS[name].defence.line}"
    if all(failure.startswith(NOT_OVER) for failure in meant):
        assert result.figures["seconds"] > 1.2 * play(name, True).figures["seconds"], "it was given too little time"
