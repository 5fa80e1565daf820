"""The binary channel in a whole engine, against gateways that misbehave; what arrived is counted at the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import channels.apn
from channels.apn.options import Options
from mcmt.message.event import Event, Kind
from tests.support.binary_gateway import BinaryGateway, Error, Frame, binary_gateway, error
from tests.support.engine_bench import Bench
from tests.support.tls import Certificates

RESULTS = (Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT)


def token(number: int) -> str:
    return f"{number:064x}"


@contextlib.asynccontextmanager
async def engine(
    folder: Path, certificates: Certificates, gateway: BinaryGateway, silence: str = "400ms", **changes: Any
) -> AsyncIterator[Bench]:
    options = Options.model_validate(
        {
            "tls_certificate": str(certificates.client),
            "tls_key": str(certificates.client_key),
            "tls_ca": str(certificates.ca),
            "delivery_response_timeout": silence,
        }
    )
    changes = {"max_resident_active_queue": 20_000, "max_outbound_connections": 1, **changes}
    async with Bench(
        folder,
        channels.apn,  # type: ignore[arg-type]  # a module: its functions' options are its own
        routes=(f"apn://localhost:{gateway.port}?protocol=binary",),
        options=options,
        **changes,
    ) as bench:
        yield bench


async def push(bench: Bench, count: int, **message: Any) -> str:
    return await bench.accept(count, media_type="message/vnd.msys.apn", content=b'{"aps":{}}', **message)


def numbers(events: list[Event], kind: Kind) -> list[int]:
    return sorted(int(event.token, 16) for event in events if event.kind is kind)


async def test_silence_means_delivered_and_everything_arrives_once_in_order(
    tmp_path: Path, certificates: Certificates
) -> None:
    with binary_gateway(certificates) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 3000)
            events = await bench.wait_for_events(3000, *RESULTS)
            assert await bench.left() == 0
        assert numbers(events, Kind.DELIVERY) == list(range(1, 3001))
        assert gateway.tokens() == [token(number) for number in range(1, 3001)]
        assert gateway.connections == 1
        assert [frame.identifier for frame in gateway.taken] == list(range(1, 3001))


@pytest.mark.parametrize("linger", [True, False], ids=["faithful", "closes at once"])
async def test_an_error_in_mid_window_sends_again_exactly_the_later_ones_in_order(
    tmp_path: Path, certificates: Certificates, linger: bool
) -> None:
    bad = token(5000)

    def judge(frame: Frame) -> Error | None:
        return error(frame, 8, linger=linger) if frame.token == bad else None

    with binary_gateway(certificates, judge) as gateway:
        async with engine(tmp_path, certificates, gateway, silence="2s") as bench:
            await push(bench, 10_000)
            events = await bench.wait_for_events(10_000, *RESULTS, within=30)
            assert await bench.left() == 0
        assert gateway.tokens() == [token(number) for number in range(1, 10_001) if number != 5000]
        assert [frame.number for frame in gateway.taken if frame.connection == 2] == list(range(1, 5001))
        assert gateway.connections == 2
    assert numbers(events, Kind.PERMANENT) == [5000]
    assert numbers(events, Kind.TRANSIENT) == []
    (failed,) = [event for event in events if event.kind is Kind.PERMANENT]
    assert (failed.code, failed.text, failed.remote_address) == ("8", "Invalid Token", "127.0.0.1")
    assert {event.attempt for event in events} == {0}, "what was discarded was not an attempt"


async def test_after_a_shutdown_only_what_is_behind_the_last_good_one_is_sent_again(
    tmp_path: Path, certificates: Certificates
) -> None:
    def judge(frame: Frame) -> Error | None:
        return error(frame, 10, takes=True) if frame.connection == 1 and frame.number == 40 else None

    with binary_gateway(certificates, judge) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 100)
            events = await bench.wait_for_events(100, *RESULTS)
        assert gateway.tokens() == [token(number) for number in range(1, 101)]
    assert {event.kind for event in events} == {Kind.DELIVERY}
    assert {event.attempt for event in events} == {0}


@pytest.mark.parametrize(
    "packet",
    [b"", b"\x08\x08\x00", struct.pack(">BBI", 8, 8, 0xDEADBEEF), b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    ids=["without a packet", "half a packet", "an identifier never sent", "no packet at all"],
)
async def test_an_end_that_explains_nothing_sends_the_window_again(
    tmp_path: Path, certificates: Certificates, packet: bytes
) -> None:
    def judge(frame: Frame) -> Error | None:
        return Error(packet) if frame.connection == 1 and frame.number == 40 else None

    with binary_gateway(certificates, judge) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 60)
            events = await bench.wait_for_events(60, Kind.DELIVERY)
            tried = await bench.events(Kind.TRANSIENT)
        arrived = Counter(gateway.tokens())
    assert len(events) == 60
    assert set(arrived) == {token(number) for number in range(1, 61)}
    assert {event.code for event in tried} == {"451"}
    assert all(event.text.startswith("4.4.2 [internal] ") for event in tried)
    doubled = {token for token, count in arrived.items() if count > 1}
    assert doubled <= {event.token for event in tried}, "only what was in doubt, and said so, came twice"


async def test_silence_confirms_nothing_that_has_not_reached_the_gateways_machine(
    tmp_path: Path, certificates: Certificates
) -> None:
    """A gateway that reads nothing is as silent as one that is content."""
    with binary_gateway(certificates, receive_buffer=64 * 1024) as gateway:
        gateway.reading.clear()
        async with engine(tmp_path, certificates, gateway, silence="300ms") as bench:
            await bench.accept(
                3000, media_type="message/vnd.msys.apn", content=b'{"aps":{"alert":"%s"}}' % (b"x" * 4000)
            )
            await bench.wait_for_events(1, Kind.DELIVERY)
            await asyncio.sleep(1.0)  # three times the silence that means delivered
            assert len(await bench.events(*RESULTS)) * 4000 < 512 * 1024, "no more than the gateway's kernel took"
            gateway.reading.set()
            delivered = await bench.wait_for_events(3000, Kind.DELIVERY, within=20)
        assert Counter(gateway.tokens()) == Counter(event.token for event in delivered)
        assert gateway.connections == 1


async def test_bad_tokens_in_a_row_are_progress_and_no_reason_to_hold_the_route(
    tmp_path: Path, certificates: Certificates
) -> None:
    """Each costs a connection; none costs the others' time."""
    bad = {token(number) for number in range(10, 30)}

    def judge(frame: Frame) -> Error | None:
        return error(frame, 8) if frame.token in bad else None

    with binary_gateway(certificates, judge) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 40)
            events = await bench.wait_for_events(40, *RESULTS, within=15)
            news = await bench.events(Kind.ROUTE)
        assert gateway.tokens() == [token(number) for number in (*range(1, 10), *range(30, 41))]
        assert gateway.connections == 21
    assert numbers(events, Kind.PERMANENT) == list(range(10, 30))
    assert news == []


async def test_a_gateway_in_trouble_is_not_asked_as_fast_as_connections_can_be_had(
    tmp_path: Path, certificates: Certificates
) -> None:
    with binary_gateway(certificates, lambda frame: error(frame, 255)) as gateway:
        async with engine(tmp_path, certificates, gateway, retry_interval=30.0, max_retry_interval=60.0) as bench:
            await push(bench, 100)
            await bench.wait_for_events(1, Kind.TRANSIENT)
            await asyncio.sleep(1.5)
            assert 2 <= gateway.connections <= 4
            assert await bench.left() == 100


async def test_a_topic_that_is_refused_suspends_the_route_and_keeps_the_mail(
    tmp_path: Path, certificates: Certificates
) -> None:
    with binary_gateway(certificates, lambda frame: error(frame, 6)) as gateway:
        async with engine(tmp_path, certificates, gateway, max_retry_interval=60.0) as bench:
            await push(bench, 10)
            (news,) = await bench.wait_for_events(1, Kind.ROUTE)
            assert await bench.left() == 10
            assert await bench.events(*RESULTS) == []
        assert gateway.taken == []
    assert news.phase == "suspended"
    assert "6 Invalid Topic Size" in news.text


async def test_a_certificate_that_is_refused_suspends_the_route(tmp_path: Path, certificates: Certificates) -> None:
    with binary_gateway(certificates, demands_certificate=True) as gateway:
        async with engine(tmp_path, certificates, gateway, max_retry_interval=60.0) as bench:
            await push(bench, 10)
            (news,) = await bench.wait_for_events(1, Kind.ROUTE)
            assert await bench.left() == 10
            assert await bench.events(*RESULTS) == []
    assert news.phase == "suspended"
    assert "refuses the client certificate" in news.text


async def test_a_drain_waits_until_the_window_is_confirmed(tmp_path: Path, certificates: Certificates) -> None:
    with binary_gateway(certificates) as gateway:
        async with engine(tmp_path, certificates, gateway, silence="600ms") as bench:
            await push(bench, 50)
            await bench.wait_until(lambda: len(gateway.taken) == 50)
            assert await bench.events(*RESULTS) == []
            await bench.engine.drain(10)
            assert numbers(await bench.events(*RESULTS), Kind.DELIVERY) == list(range(1, 51))


async def test_tokens_that_no_gateway_takes_fail_without_being_sent(tmp_path: Path, certificates: Certificates) -> None:
    odd = {1: "abc", 2: "ab" * 31, 3: "ab" * 33}
    with binary_gateway(certificates) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 10, token=lambda number: odd.get(number) or token(number))
            events = await bench.wait_for_events(10, *RESULTS)
        assert gateway.tokens() == [token(number) for number in range(4, 11)]
        assert gateway.connections == 1
    failed = [event for event in events if event.kind is Kind.PERMANENT]
    assert {event.token: (event.code, event.text) for event in failed} == dict.fromkeys(
        odd.values(), ("5", "Invalid Token Size")
    )


async def test_what_the_message_asks_for_is_in_the_frame(tmp_path: Path, certificates: Certificates) -> None:
    with binary_gateway(certificates) as gateway:
        async with engine(tmp_path, certificates, gateway) as bench:
            await push(bench, 1, headers=(("apns-priority", "5"), ("apns-expiration", "1999999999")))
            await bench.wait_for_events(1, *RESULTS)
        (frame,) = gateway.taken
    assert (frame.priority, frame.expiration, frame.payload) == (5, 1999999999, b'{"aps":{}}')
