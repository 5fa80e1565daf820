"""The feedback service is read to its end, and closed in good order only when everything was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from channels.apn.binary.feedback import feedback, read_feedback
from channels.apn.options import Options
from mcmt.errors import ConnectError, RouteFaultError, SpoolError
from mcmt.message.route import parse_route
from tests.support.feedback_service import FeedbackService, Visit, feedback_service, tuples
from tests.support.tls import Certificates

TOLD = [(1_600_000_000 + number, f"{number:02x}" * (1 + number * 7)) for number in range(40)]
"""Tokens of 1 to 274 bytes."""


class Disk:
    """Where tokens are written down."""

    def __init__(self) -> None:
        self.tokens: list[tuple[float, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.failure: Exception | None = None

    async def told(self, batch: Sequence[tuple[str, float]]) -> None:
        self.asked.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.tokens += [(since, token) for token, since in batch]


def options(service: FeedbackService, certificates: Certificates) -> Options:
    values = {
        "tls_certificate": certificates.client,
        "tls_key": certificates.client_key,
        "tls_ca": certificates.ca,
        "feedback": {"route": service.route, "interval": "1h"},
    }
    return Options.model_validate(values, context={})


async def read(service: FeedbackService, certificates: Certificates, disk: Disk, silence: float = 10.0) -> None:
    await read_feedback(parse_route(service.route), options(service, certificates), disk.told, silence)


@pytest.mark.parametrize("size", [1, 5, 6, 7, 1000, 10**6])
@pytest.mark.parametrize("ends", ["goodbye", "close"])
async def test_every_tuple_is_told_however_it_is_split_and_the_service_sees_a_good_end(
    certificates: Certificates, size: int, ends: str
) -> None:
    whole = tuples(*TOLD)
    chunks = tuple(whole[start : start + size] for start in range(0, len(whole), size))
    with feedback_service(certificates, lambda _: Visit(chunks, ends)) as service:  # type: ignore[arg-type]
        disk = Disk()
        await read(service, certificates, disk)
        assert disk.tokens == TOLD
        await asyncio.to_thread(service.wait, lambda: service.visits == ["closed"])


async def test_an_empty_list_is_an_end_like_any_other(certificates: Certificates) -> None:
    with feedback_service(certificates, lambda _: Visit()) as service:
        disk = Disk()
        await read(service, certificates, disk)
        assert disk.tokens == []
        await asyncio.to_thread(service.wait, lambda: service.visits == ["closed"])


async def test_the_connection_is_not_closed_before_the_last_tuple_is_on_disk(certificates: Certificates) -> None:
    with feedback_service(certificates, lambda _: Visit((tuples(*TOLD),))) as service:
        disk = Disk()
        disk.open.clear()
        reading = asyncio.ensure_future(read(service, certificates, disk))
        await disk.asked.wait()
        await asyncio.to_thread(service.wait, lambda: service.sent == 1)
        await asyncio.sleep(0.1)  # nothing is to happen, which has no event
        assert service.visits == []
        disk.open.set()
        await reading
        await asyncio.to_thread(service.wait, lambda: service.visits == ["closed"])


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_list_that_could_not_be_written_down_is_seen_as_not_read(
    certificates: Certificates, cancelled: bool
) -> None:
    """The reader has received all of it, and the service's machine knows it: a close would clear the list."""
    with feedback_service(certificates, lambda _: Visit((tuples(*TOLD),))) as service:
        disk = Disk()
        disk.open.clear()
        disk.failure = SpoolError("the disk is full")
        reading = asyncio.ensure_future(read(service, certificates, disk))
        await disk.asked.wait()
        if cancelled:
            reading.cancel()
        disk.open.set()
        with pytest.raises((SpoolError, asyncio.CancelledError)):
            await reading
        await asyncio.to_thread(service.wait, lambda: service.visits == ["reset"])


@pytest.mark.parametrize("ends", ["close", "reset", "goodbye"])
async def test_a_service_that_dies_in_a_tuple_is_an_error_and_what_it_told_before_stays(
    certificates: Certificates, ends: str
) -> None:
    cut = tuples(*TOLD)[:-3]
    with feedback_service(certificates, lambda _: Visit((cut,), ends)) as service:  # type: ignore[arg-type]
        disk = Disk()
        with pytest.raises(ConnectError, match=r"after \d+ tokens"):
            await read(service, certificates, disk)
        assert disk.tokens == TOLD[: len(disk.tokens)]
        if ends != "reset":
            assert len(disk.tokens) == len(TOLD) - 1


async def test_silence_is_an_error(certificates: Certificates) -> None:
    with feedback_service(certificates, lambda _: Visit((tuples(*TOLD),), "silence")) as service:
        disk = Disk()
        with pytest.raises(ConnectError, match=r"was silent for 0\.3 s, after 40 tokens"):
            await read(service, certificates, disk, silence=0.3)
        assert disk.tokens == TOLD


async def test_a_service_that_refuses_the_certificate_is_the_routes_fault(certificates: Certificates) -> None:
    with (
        feedback_service(certificates, lambda _: Visit(), demands_certificate=True) as service,
        pytest.raises(RouteFaultError, match="refuses the client certificate"),
    ):
        await read(service, certificates, Disk())


async def test_a_service_that_is_not_there_is_an_error(certificates: Certificates) -> None:
    with feedback_service(certificates, lambda _: Visit()) as service:
        pass
    with pytest.raises(ConnectError, match="localhost"):
        await read(service, certificates, Disk())


def test_what_the_options_name_is_what_is_read(certificates: Certificates) -> None:
    with feedback_service(certificates, lambda _: Visit()) as service:
        found = feedback(options(service, certificates))
    assert found is not None
    assert (found.place, found.interval) == (service.route, 3600.0)
    assert feedback(Options()) is None
