"""The HTTP API of the real process: what is acknowledged is kept once, whoever dies, and every refusal says why."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcmt.client import AsyncClient, Client, RefusedError, Sent, UnavailableError, message
from tests.support.engine_process import EngineProcess
from tests.support.http_api import DISCARD, KEY, MAIL, MESSAGE, NARROW_KEY, OTHER_KEY, TO, TOKENS, Api, http_api
from tests.support.tls import make_certificates

HOLD = {"delivery_method": "discard", "routes": ["discard://sink"], "suspend_delivery": True}


def ended(api: Api, message_id: str) -> list[str]:
    """The states of a message's deliveries, when none is pending."""
    with api.client() as client:
        deadline = time.monotonic() + 20
        while not (status := client.status(message_id)).ended:
            assert time.monotonic() < deadline, status
            time.sleep(0.02)  # the answer changes by itself
        return [one.state for one in status.deliveries]


def receptions(api: Api) -> Counter[str]:
    """Reception lines, by batch id."""
    return Counter(line[2] for line in api.process.mainlog if line[4] == "R")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An engine that takes 100 KB."""
    listen = {"max_message_size": "100KB", "data_timeout": 2, "idle_timeout": 2}
    folder = tmp_path_factory.mktemp("small")
    loggers = {"ec_logger1": {"mainlog": "logs/mainlog.ec", "rejectlog": "logs/rejectlog.ec"}}
    with http_api(folder, listen=listen, ec_logger=loggers) as api:
        yield api


@pytest.mark.parametrize("workers", [1, 2])
def test_a_message_is_kept_delivered_and_can_be_asked_for_also_after_a_restart(tmp_path: Path, workers: int) -> None:
    with http_api(tmp_path, workers=workers) as api:
        with api.client() as client:
            sent = [client.send([TO, "b@discard.example.com"], [MAIL]) for _ in range(4)]
        assert {one.deliveries for one in sent} == {2}
        for one in sent:
            assert ended(api, one.id) == ["delivered", "delivered"]
        api.process.stop()
        api.restart()
        assert ended(api, sent[0].id) == ["delivered", "delivered"]
        (line, _) = [line for line in api.process.mainlog if line[4] == "R" and line[2] == sent[0].id]
        assert "http" in line


def test_keys_and_outcomes_are_known_after_the_number_of_workers_has_changed(tmp_path: Path) -> None:
    """Which worker has a key follows from their number, and the shard of one that is gone holds what it knew."""
    with http_api(tmp_path, workers=1) as api:

        def send(numbers: range) -> list[Sent]:
            with api.client() as client:
                return [client.send([TO], [MAIL], key=f"order-{number}") for number in numbers]

        sent: list[Sent] = []
        for workers in (3, 2, 1):
            sent += send(range(len(sent), len(sent) + 12))
            for one in sent:
                assert ended(api, one.id) == ["delivered"]
            api.process.stop()
            config = api.process.config.read_text()
            api.process.config.write_text(re.sub(r"workers: \d", f"workers: {workers}", config))
            api.restart()
            assert send(range(len(sent))) == [Sent(one.id, 1, replayed=True) for one in sent]
        api.process.stop()
        assert receptions(api) == Counter({one.id: 1 for one in sent})


@pytest.mark.parametrize("workers", [1, 2])
def test_one_key_is_one_message_however_many_send_it_at_once(tmp_path: Path, workers: int) -> None:
    with http_api(tmp_path, workers=workers) as api:

        def send(number: int) -> Sent:
            with api.client() as client:
                return client.send([TO], [MAIL], key=f"order-{number % 3}")

        with ThreadPoolExecutor(12) as pool:
            sent = list(pool.map(send, range(60)))
        assert len({one.id for one in sent}) == 3
        assert sum(not one.replayed for one in sent) == 3
        for one in sent[:3]:
            assert ended(api, one.id) == ["delivered"]
        api.process.stop()
        assert receptions(api) == Counter({one.id: 1 for one in sent[:3]})
        api.restart()
        with api.client() as client:
            assert client.send([TO], [MAIL], key="order-0") == Sent(sent[0].id, 1, replayed=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_was_killed_between_commit_and_answer_gives_the_same_id_to_whoever_comes_again(
    tmp_path: Path, workers: int
) -> None:
    body = json.dumps(MESSAGE).encode()
    request = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: order-7\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with http_api(tmp_path, workers=workers) as api:
        with socket.create_connection(("127.0.0.1", api.port)) as unanswered:
            unanswered.sendall(request)
            api.process.wait(lambda: len(receptions(api)) == 1)
            api.process.kill()
        (kept,) = receptions(api)
        api.restart()
        answer = api.request(body=body, Idempotency_Key="order-7")
        assert (answer.status, answer.body["id"]) == (202, kept)
        assert answer.headers["Idempotency-Replayed"] == "true"
        assert ended(api, kept) == ["delivered"]
        api.process.stop()
        assert receptions(api) == Counter({kept: 1})
        assert sum(line[4] == "D" for line in api.process.mainlog) == 1


def test_what_is_sent_while_workers_are_killed_is_delivered_once(tmp_path: Path) -> None:
    with http_api(tmp_path, workers=2) as api:
        workers = api.process.status()["workers"]
        with ThreadPoolExecutor(1) as pool:

            def send() -> list[Any]:
                with api.client(timeout=5.0, attempts=20) as client:
                    return [client.send([TO], [MAIL], key=f"order-{number}") for number in range(200)]

            sending = pool.submit(send)
            for pid in workers:
                time.sleep(0.2)
                os.kill(pid, signal.SIGKILL)
            sent = sending.result(60)
        assert len({one.id for one in sent}) == 200
        for one in sent:
            assert ended(api, one.id) == ["delivered"]
        api.process.stop()
        assert receptions(api) == Counter({one.id: 1 for one in sent})


def test_five_thousand_messages_in_bulk_are_all_delivered(tmp_path: Path) -> None:
    with http_api(tmp_path, workers=2) as api:
        with api.client() as client:
            sent = list(client.send_many([message([f"u{n}@discard.example.com"], [MAIL]) for n in range(5000)]))
        ids = {one.id for one in sent if isinstance(one, Sent)}
        assert len(ids) == 5000
        api.process.wait(lambda: sum(line[4] == "D" for line in api.process.mainlog) == 5000)


def test_in_bulk_each_line_has_its_answer_as_it_comes_and_the_same_again(small: Api) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: b\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        answers = connection.makefile("rb")

        def ask(line: bytes) -> dict[str, Any]:
            connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))
            while not (said := answers.readline()).startswith(b"{"):
                assert said, "the connection ended"
            told: dict[str, Any] = json.loads(said)
            return told

        good = json.dumps(MESSAGE).encode() + b"\n"
        first = ask(good)
        assert (first["line"], first["status"], first["deliveries"]) == (1, 202, 1)
        second = ask(b'{"to": [], "parts": []}\n')
        assert (second["line"], second["status"], second["field"]) == (2, 400, "to")
        third = ask(good)
        assert (third["line"], third["status"]) == (3, 202)
        connection.sendall(b"0\r\n\r\n")
        again = small.request(body=good, Content_Type="application/x-ndjson", Idempotency_Key="b")
        assert json.loads(again.body)["id"] == first["id"] != third["id"]


def test_a_scheduled_message_waits_for_its_time_and_over_a_restart(tmp_path: Path) -> None:
    with http_api(tmp_path) as api:
        with api.client() as client:
            later = client.send([TO], [MAIL], schedule=datetime.now(UTC) + timedelta(hours=1))
            soon = client.send([TO], [MAIL], schedule=time.time() + 3)
            assert [one.state for one in client.status(soon.id).deliveries] == ["waiting"]
        api.process.stop()
        api.restart()
        assert ended(api, soon.id) == ["delivered"]
        with api.client() as client:
            assert [one.state for one in client.status(later.id).deliveries] == ["waiting"]


def test_a_raw_message_has_its_envelope_in_the_query(small: Api) -> None:
    mcmt = b"--B\nContent-Type: message/rfc822\n\nSubject: inner\n\nmail\n--B--\n"
    answer = small.request(
        path=f"/v1/messages?to={TO}&from=app%40example.com",
        body=mcmt,
        Content_Type="multipart/vnd.msys.mcmt; boundary=B",
    )
    assert answer.status == 202
    assert ended(small, answer.body["id"]) == ["delivered"]
    missing = small.request(path="/v1/messages", body=mcmt, Content_Type="message/rfc822")
    assert (missing.status, missing.body["field"]) == (400, "to")


def refusals() -> list[Any]:
    part = {"media_type": "message/rfc822", "text": "x"}
    cases: dict[str, tuple[dict[str, Any], int, str]] = {
        "no token": ({"body": MESSAGE, "key": None}, 401, ""),
        "a token that is not known": ({"body": MESSAGE, "key": "x" * 40}, 401, ""),
        "a token for another scope": ({"body": MESSAGE, "key": OTHER_KEY}, 403, ""),
        "a token for other domains": ({"body": MESSAGE, "key": NARROW_KEY}, 403, "to[0]"),
        "no JSON": ({"body": b"{"}, 400, ""),
        "a field that there is not": ({"body": {**MESSAGE, "too": 1}}, 400, ""),
        "a wrong type": ({"body": {"to": ["a@b", 3], "parts": [part]}}, 400, "to[1]"),
        "no address": ({"body": {"to": ["nobody"], "parts": [part]}}, 400, "to[0]"),
        "no route": ({"body": {"to": ["a@elsewhere.example.com"], "parts": [part]}}, 400, "to"),
        "two contents": ({"body": {"to": [TO], "parts": [{**part, "base64": ""}]}}, 400, "parts[0]"),
        "no base64": ({"body": {"to": [TO], "parts": [{"media_type": "a/b", "base64": "!"}]}}, 400, "parts[0].base64"),
        "no part for the channel": ({"body": {"to": [TO], "parts": [{"media_type": "a/b", "text": ""}]}}, 400, "parts"),
        "over before it begins": ({"body": {**MESSAGE, "expires": 5}}, 400, "expires"),
        "too far ahead": ({"body": {**MESSAGE, "schedule": 9e9}}, 400, "schedule"),
        "a bad return path": ({"body": {**MESSAGE, "from": "nobody"}}, 400, "from"),
        "a line end in a header field": ({"body": {**MESSAGE, "headers": {"subject": "a\nb"}}}, 400, "headers[...]"),
        "an empty key": ({"body": MESSAGE, "Idempotency_Key": ""}, 400, "Idempotency-Key"),
        "too large": ({"body": b" " * 200_000}, 413, ""),
        "another type": ({"body": b"x", "Content_Type": "text/plain"}, 415, "Content-Type"),
        "compressed": ({"body": b"x", "Content_Encoding": "gzip"}, 415, "Content-Encoding"),
        "another method": ({"method": "PUT", "body": MESSAGE}, 405, ""),
        "nothing there": ({"method": "GET", "path": "/"}, 404, ""),
        "a message that is not known": ({"method": "GET", "path": "/v1/messages/0"}, 404, ""),
        "a page of a number that is none": ({"method": "GET", "path": "/v1/messages/0?after=x"}, 400, "after"),
    }
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("request_", "status", "field"), refusals())
def test_a_refusal_is_a_problem_that_names_the_field(
    small: Api, request_: dict[str, Any], status: int, field: str
) -> None:
    answer = small.request(**request_)
    assert (answer.status, answer.body.get("field", "")) == (status, field)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.body["detail"]
    assert ("WWW-Authenticate" in answer.headers) == (status == 401 or answer.body["detail"].endswith("scope send"))


def test_refusals_are_in_the_ledger_with_the_door(small: Api) -> None:
    small.request(body={**MESSAGE, "from": "nobody@"})
    log = small.process.folder / "logs" / "rejectlog.ec"
    small.process.wait(lambda: "from: expected a mail address" in log.read_text())
    assert 'P="HTTP" E=400 M=http' in log.read_text()


def test_another_message_with_the_same_key_is_refused(small: Api) -> None:
    assert small.request(body=MESSAGE, Idempotency_Key="same").status == 202
    answer = small.request(body={**MESSAGE, "to": ["other@discard.example.com"]}, Idempotency_Key="same")
    assert (answer.status, answer.body["field"]) == (422, "Idempotency-Key")


def test_nobody_is_told_of_messages_of_others(small: Api) -> None:
    sent = small.request(body=MESSAGE).body["id"]
    assert small.request("GET", f"/v1/messages/{sent}").status == 200
    assert small.request("GET", f"/v1/messages/{sent}", key=OTHER_KEY).status == 404


def test_silent_clients_are_let_go_and_a_body_that_does_not_come_is_not_waited_for(small: Api) -> None:
    """All at once, so that their timeouts are waited for once."""
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    )
    said = b"", b"POST /v1/mess", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", head.encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", small.port), timeout=20)) for _ in said]
        for client, octets in zip(clients, said, strict=True):
            client.sendall(octets)
        # What is answered is all that is waited for of the last: its connection lingers for what may still come.
        ends = [b"".join(iter(lambda client=client: client.recv(4096), b"")) for client in clients[:-1]]  # type: ignore[misc]
        answers = [*ends, clients[-1].recv(4096)]
    assert [answer[:13] for answer in answers] == [b"", b"", b"HTTP/1.1 404 ", b"HTTP/1.1 408 "]


def test_a_head_that_is_too_long_is_refused(small: Api) -> None:
    assert small.request(body=MESSAGE, X_Long="x" * 20_000).status == 400
    assert small.request(body=MESSAGE).status == 202


def test_when_memory_is_short_or_the_disk_is_full_clients_are_told_when_to_come_again(tmp_path: Path) -> None:
    listener = {"listen": {"127.0.0.1:0": {"max_message_size": "10KB"}}, "max_intake_bytes": "36KB"}
    with http_api(tmp_path / "memory", listen={"max_message_size": "10KB"}, esmtp_listener=listener) as api:
        head = (
            f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", api.port)) as slow:
            slow.sendall(head.encode() + b" " * 9_999)
            deadline = time.monotonic() + 10
            while (answer := api.request(body=b" " * 9_000)).status != 429:
                assert time.monotonic() < deadline, answer
            assert answer.headers["Retry-After"] == "1"
        deadline = time.monotonic() + 10
        while (answer := api.request(body=MESSAGE)).status != 202:
            assert time.monotonic() < deadline, answer
    with http_api(tmp_path / "disk", spool={"path": "spool", "min_free": "1000000GB"}) as api:
        answer = api.request(body=MESSAGE)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        with (
            pytest.raises(UnavailableError, match="the disk is full"),
            api.client(attempts=2, sleep=lambda _: None) as c,
        ):
            c.send([TO], [MAIL])


@pytest.mark.parametrize("workers", [1, 2])
def test_one_connection_too_many_is_told_so_in_http(tmp_path: Path, workers: int) -> None:
    listener = {"listen": {"127.0.0.1:0": {}}, "max_connections": 1}
    with (
        http_api(tmp_path, workers=workers, esmtp_listener=listener) as api,
        socket.create_connection(("127.0.0.1", api.port)) as first,
    ):
        first.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        answer = api.request(body=MESSAGE)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "max_connections" in answer.body["detail"]


@pytest.mark.parametrize("workers", [1, 2])
def test_over_tls(tmp_path: Path, workers: int) -> None:
    certificates = make_certificates(tmp_path)
    listen = {"tls_certificate": str(certificates.server), "tls_key": str(certificates.server_key)}
    with http_api(tmp_path / "engine", workers=workers, listen=listen) as api:
        context = ssl.create_default_context(cafile=str(certificates.ca))
        with Client(f"https://localhost:{api.port}", KEY, context=context) as client:
            assert client.send([TO], [MAIL]).deliveries == 1


async def test_the_client_for_asyncio_sends_many_at_once(small: Api) -> None:
    async with AsyncClient(small.url, KEY) as client:
        sent = await asyncio.gather(*[client.send([TO], [MAIL]) for _ in range(40)])
        assert len({one.id for one in sent}) == 40
        assert (await client.status(sent[0].id)).total == 1
        answers = await client.send_many([MESSAGE, {**MESSAGE, "to": []}])
        assert isinstance(answers[0], Sent)
        assert isinstance(answers[1], RefusedError)
        with pytest.raises(RefusedError, match="to\\[0\\]: <nobody> has no domain"):
            await client.send(["nobody"], [MAIL])


def test_the_command_line_makes_a_token_and_sends_with_it(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-m", "mcmt", "apikey", "cli", "--json"], capture_output=True, check=True)
    token = json.loads(made.stdout)
    tokens = {"cli": {"hash": token["hash"]}}
    apn = {"delivery_method": "apn", "routes": ["apn://localhost:9"], "apn_topic": "a.b", "suspend_delivery": True}
    certificates = make_certificates(tmp_path)
    apn |= {"tls_certificate": str(certificates.client), "tls_key": str(certificates.client_key)}
    listener = {"listen": {"127.0.0.1:0": {}}, "tokens": tokens}
    with http_api(tmp_path / "e", http_listener=listener, domain={"apn.example.com": apn}) as api:
        command = api.process.command("send", "--http", api.url, "--token", "ab" * 32, "--alert", "hello")
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "MCMT_API_KEY": token["token"]},
        )
        assert done.stdout.startswith("202 ")
        refused = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "MCMT_API_KEY": "x"}
        )
        assert (refused.returncode, "401" in refused.stderr) == (1, True)


def test_the_openapi_document_is_what_is_done(tmp_path: Path) -> None:
    with http_api(tmp_path, domain={"discard.example.com": HOLD, "*": DISCARD}) as api:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/v1/openapi.json"),
            *("-H", f"Authorization: Bearer {KEY}", "--max-examples", "10", "--seed", "1", "--no-color"),
            *("--phases", "coverage,fuzzing", "--generation-database", "none"),
            *("--suppress-health-check", "all"),
            *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
            *("--checks", "response_headers_conformance,response_schema_conformance"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_an_engine_needs_no_smtp(tmp_path: Path) -> None:
    """With workers, which hand each other what belongs to their door; ``mcmt send`` says what there is instead."""
    process = EngineProcess(
        tmp_path,
        {"discard.example.com": DISCARD, "narrow.example.com": DISCARD},
        workers=2,
        esmtp_listener={"max_connections": 20},
        http_listener={"listen": {"127.0.0.1:0": {}}, "tokens": TOKENS},
    )
    process.start()
    try:
        assert process.smtp_port == 0
        api = Api(process, process.doors["http_listener"])
        for _ in range(3):
            assert api.request(body=MESSAGE).status == 202
        process.wait(lambda: sum(line[4] == "D" for line in process.mainlog) == 3)
        send = process.command("send", "--to", TO, "--alert", "hello")
        done = subprocess.run(send, capture_output=True, text=True, timeout=60, check=False)
        assert "has no esmtp_listener: name another engine's with --smtp, or submit with --http" in done.stderr
    finally:
        process.stop()
