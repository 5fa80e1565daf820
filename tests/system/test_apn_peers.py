"""The apn channel, inside a whole engine, against HTTP/2 stacks that are not ours.

Every push is counted by the peer: by nginx's access log, by Node's or nghttpd's own streams.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcmt.channel.plugins import load
from mcmt.message.event import Event, Kind
from mcmt.message.identity import uuid_of
from tests.support.engine_bench import Bench
from tests.support.peers import free_port, nghttpd, nginx, node_peer, running
from tests.support.tls import Certificates, make_certificates

COUNT = 2000
PAYLOAD = b'{"aps":{"alert":"You have mail","badge":9,"sound":"dingdong.aiff"},"app-key":"bar"}'
MEDIA_TYPE = "message/vnd.msys.apn"
HEADERS = (("apns-push-type", "alert"), ("apns-priority", "10"))


def apn_bench(folder: Path, port: int, certificates: Certificates, **changes: Any) -> Bench:
    """An engine whose domain goes to *port* on loopback, with a client certificate."""
    channel = load("apn")
    response_timeout = changes.pop("delivery_response_timeout", "30s")
    options = channel.Options.model_validate(
        {
            "tls_certificate": str(certificates.client),
            "tls_key": str(certificates.client_key),
            "tls_ca": str(certificates.ca),
            "apn_topic": "com.example.app",
            "delivery_response_timeout": response_timeout,
        }
    )
    return Bench(folder, channel, routes=(f"apn://localhost:{port}",), options=options, **changes)


async def push(bench: Bench, count: int = COUNT, **message: Any) -> list[str]:
    """Accept one message with *count* deliveries; their apns-ids."""
    batch_id = await bench.accept(count, content=PAYLOAD, headers=HEADERS, media_type=MEDIA_TYPE, **message)
    return [uuid_of(batch_id, number) for number in range(1, count + 1)]


def ids_of(events: list[Event]) -> Counter[str]:
    return Counter(event.remote_id for event in events)


async def test_nginx_counts_every_push_once(tmp_path: Path, certificates: Certificates) -> None:
    with nginx(tmp_path / "nginx", certificates) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            ids = await push(bench)
            events = await bench.wait_for_events(COUNT, Kind.DELIVERY)
        requests = peer.requests()
    assert Counter(request.apns_id for request in requests) == Counter(ids) == ids_of(events)
    assert {request.topic for request in requests} == {"com.example.app"}
    assert {request.push_type for request in requests} == {"alert"}
    assert len({request.connection for request in requests}) == 1, "a connection with room is not joined by another"


async def test_nginx_churning_its_connections_by_goaway_loses_and_doubles_nothing(
    tmp_path: Path, certificates: Certificates
) -> None:
    with nginx(tmp_path / "nginx", certificates, keepalive_requests=150) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            ids = await push(bench)
            await bench.wait_for_events(COUNT, Kind.DELIVERY, within=30)
            assert await bench.events(Kind.TRANSIENT) == []
        requests = peer.requests()
    assert Counter(request.apns_id for request in requests) == Counter(ids)
    assert len({request.connection for request in requests}) >= COUNT // 150


async def test_nginx_with_few_streams_and_slow_answers_sees_the_limit_on_connections_reached_and_kept(
    tmp_path: Path, certificates: Certificates
) -> None:
    # limit_req with a burst delays every answer: a slow sink.
    with nginx(
        tmp_path / "nginx",
        certificates,
        streams=5,
        server="limit_req zone=slow burst=1000;",
        device="try_files /none @answer;",
        before="limit_req_zone $server_port zone=slow:1m rate=40r/s;",
    ) as peer:
        async with apn_bench(tmp_path, peer.port, certificates, max_outbound_connections=3) as bench:
            await push(bench, 200)
            peak = 0

            def delivered_and_counted() -> bool:
                nonlocal peak
                peak = max(peak, peer.active_connections())
                return len(peer.requests()) >= 200

            await bench.wait_until(delivered_and_counted, within=30)
            await bench.wait_for_events(200, Kind.DELIVERY)
    assert peak == 3


async def test_a_dead_token_at_nginx_is_one_permanent_failure_with_apples_words(
    tmp_path: Path, certificates: Certificates
) -> None:
    with nginx(tmp_path / "nginx", certificates) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            await push(bench, 5, token=lambda number: f"dead{number:060x}" if number == 3 else f"{number:064x}")
            await bench.wait_for_events(4, Kind.DELIVERY)
            (failed,) = await bench.wait_for_events(1, Kind.PERMANENT)
    assert (failed.code, failed.text, failed.gone_since) == ("410", "Unregistered", 1_700_000_000.0)
    assert failed.id.endswith("-3")


async def test_a_client_certificate_is_presented(tmp_path: Path, certificates: Certificates) -> None:
    server = f"ssl_verify_client on; ssl_client_certificate {certificates.ca};"
    with nginx(tmp_path / "nginx", certificates, server=server) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            await push(bench, 10)
            await bench.wait_for_events(10, Kind.DELIVERY)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_client_certificate_that_the_gateway_refuses_is_the_routes_fault(
    tmp_path: Path, certificates: Certificates, version: str
) -> None:
    """The TLS alert comes in the handshake or, with 1.3, after it: the mail is kept, and the gateway left alone."""
    strangers = make_certificates(tmp_path)
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", version, "-alpn", "h2", "-quiet", "-naccept", "9"]
    command += ["-cert", str(certificates.server), "-key", str(certificates.server_key)]
    command += ["-CAfile", str(certificates.ca), "-Verify", "1", "-verify_return_error"]
    with running(command, port, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        mine = certificates._replace(client=strangers.client, client_key=strangers.client_key)
        async with apn_bench(tmp_path, port, mine) as bench:
            await push(bench, 1)
            (event,) = await bench.wait_for_events(1, Kind.ROUTE)
            assert event.phase == "suspended"
            assert "refuses the client certificate" in event.text
            assert await bench.left() == 1


async def test_a_gateway_with_a_certificate_of_another_authority_gets_nothing(
    tmp_path: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    strangers = make_certificates(tmp_path_factory.mktemp("strangers"))
    with nginx(tmp_path / "nginx", strangers) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            await push(bench, 1)
            (event,) = await bench.wait_for_events(1, Kind.ROUTE)
            assert event.phase == "down"
            assert "certificate verify failed" in event.text
        assert peer.requests() == []


async def test_nghttpd_answers_every_push(tmp_path: Path, certificates: Certificates) -> None:
    with nghttpd(tmp_path, certificates, streams=50) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            tokens = peer.tokens
            await push(bench, 1000, token=lambda number: tokens[number % len(tokens)])
            await bench.wait_for_events(1000, Kind.DELIVERY)


async def test_nghttpd_answering_404_is_a_permanent_failure(tmp_path: Path, certificates: Certificates) -> None:
    with nghttpd(tmp_path, certificates) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            await push(bench, 1, token=lambda number: "f" * 64)
            (failed,) = await bench.wait_for_events(1, Kind.PERMANENT)
            assert failed.code == "404"


@pytest.mark.parametrize("mode", ["plain", "settings", "goaway", "refuse", "zero-window"])
async def test_nodes_http2_sees_every_push_once_whatever_it_does_to_the_connection(
    tmp_path: Path, certificates: Certificates, mode: str
) -> None:
    """SETTINGS 1000 -> 1 -> 1000, GOAWAY in mid-flight, refused streams, windows of zero: none lost, none twice."""
    with node_peer(tmp_path, certificates, mode) as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            ids = await push(bench)
            events = await bench.wait_for_events(COUNT, Kind.DELIVERY, within=15)
            assert await bench.events(Kind.TRANSIENT, Kind.PERMANENT) == []
        report = peer.report()
    assert report["violations"] == []
    assert report["ids"] == dict.fromkeys(ids, 1)
    assert ids_of(events) == Counter(ids)
    if mode not in ("zero-window", "refuse"):
        assert report["peak"] >= 500, "the fault must meet hundreds of streams in flight"


async def test_streams_that_nodes_http2_resets_after_processing_them_are_the_only_ones_sent_twice(
    tmp_path: Path, certificates: Certificates
) -> None:
    with node_peer(tmp_path, certificates, "reset") as peer:
        async with apn_bench(tmp_path, peer.port, certificates) as bench:
            ids = await push(bench)
            await bench.wait_for_events(COUNT, Kind.DELIVERY, within=15)
            tried = await bench.events(Kind.TRANSIENT)
        report = peer.report()
    twice = {apns_id for apns_id, count in report["ids"].items() if count == 2}
    assert set(report["ids"]) == set(ids)
    assert twice
    assert twice == {event.remote_id for event in tried}, "the ambiguous ones, under the same id"
    assert {event.code for event in tried} == {"451"}
