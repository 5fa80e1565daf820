"""Webhooks: the real process, and receivers that fail, die and come back."""

from __future__ import annotations

import socket
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mcmt.control.client import ControlClient
from mcmt.control.protocol import EngineStatus, Reload, Reloaded, Status
from mcmt.webhooks.status import WebhookStatus
from tests.support.engine_process import EngineProcess, engine
from tests.support.tls import Certificates
from tests.support.webhook_receiver import SECRET, Receiver, Reply, Request, receiver

DOMAIN = "sink.example.com"
DOMAINS = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"]}}
FAST = {"batch_wait": "50ms", "retry_interval": "100ms", "max_retry_interval": "300ms"}


def webhook(url: str, **options: Any) -> dict[str, Any]:
    return {"url": url, "secret": SECRET, "events": ["received", "delivered"], **FAST, **options}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def send(process: EngineProcess, count: int) -> None:
    for number in range(count):
        process.send(b"Subject: %d\r\n\r\nhello\r\n" % number, f"user@{DOMAIN}")


def output_of(process: EngineProcess, *command: str) -> str:
    done = subprocess.run(process.command(*command), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout + done.stderr


def webhooks(process: EngineProcess) -> Sequence[WebhookStatus]:
    with ControlClient(process.folder / "spool" / "control.sock") as client:
        engine, *_ = client.ask_raw(Status())
    return msgspec.json.decode(engine, type=EngineStatus).webhooks


def logged(process: EngineProcess) -> list[tuple[str, str]]:
    """Kind and delivery id of every R and D line of the main log, in order."""
    words = {"R": "received", "D": "delivered"}
    return [(words[fields[4]], fields[1]) for fields in process.mainlog if fields[4] in words]


def told(events: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["kind"], event["id"]) for event in events]


def check_repeats(requests: Sequence[Request]) -> None:
    """Whatever came twice came under the same id, and was the same."""
    bodies = defaultdict(set)
    ids = defaultdict(set)
    for request in requests:
        bodies[request.id].add(request.body)
        for event in request.events:
            ids[event["event_id"]].add(request.id)
    assert [each for each, found in bodies.items() if len(found) > 1] == []
    assert [each for each, found in ids.items() if len(found) > 1] == []


def check_events(process: EngineProcess, it: Receiver) -> None:
    """Every line is an event, once, in the order of the log."""
    events = {event["event_id"]: event for event in it.taken}
    assert sorted(told(list(events.values()))) == sorted(logged(process))
    numbers = [(shard, int(row), int(index)) for shard, row, index in (each.split("-") for each in events)]
    assert [each for each in numbers if each[0] == "0"] == sorted(each for each in numbers if each[0] == "0")


def test_nothing_is_lost_and_repeats_have_the_same_id_over_failures_deaths_and_kills(
    tmp_path: Path, certificates: Certificates
) -> None:
    port = free_port()

    def failing(number: int) -> Reply | None:
        script = {0: Reply(500), 1: Reply(503, {"Retry-After": "1"}), 3: Reply(302, {"Location": "/elsewhere"})}
        if number == 5:
            return None  # says nothing, until the engine is killed
        return script.get(number, Reply(200, {}, b"thanks"))

    dead = free_port()
    hooks = {
        "shop": webhook(f"https://localhost:{port}/hook", tls_ca=str(certificates.ca), batch_size=7),
        "dead": webhook(f"http://localhost:{dead}/"),
    }
    process = EngineProcess(tmp_path / "engine", DOMAINS, workers=2, webhook=hooks)
    process.start()
    try:
        with receiver(failing, certificates, port=port) as first:
            send(process, 20)
            first.wait(lambda: len(first.requests) >= 6)
            send(process, 5)
            process.kill()
        process.start()  # and nobody is there
        send(process, 20)
        process.wait(lambda: len(logged(process)) == 90)
        process.wait(lambda: {each.state for each in webhooks(process)} == {"down"})
        with receiver(lambda _: Reply(), certificates, port=port) as second:
            # What it gets first is the batch that was never answered, as it was.
            second.wait(lambda: bool(second.requests))
            assert second.requests[0][:2] == first.requests[5][:2]
            second.wait(lambda: len({e["event_id"] for e in first.taken + second.taken}) >= 90)
            assert second.connections == 1, "one connection serves for many requests"
            process.wait(lambda: {each.state for each in webhooks(process)} == {"up", "down"})
        first.requests += second.requests
        check_repeats(first.requests)
        check_events(process, first)
        # The dead one held nobody up: no line is missing, no row is left for its sake.
        command = process.command("audit")
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
        # And when it lives, it gets everything too.
        with receiver(port=dead) as risen:
            risen.wait(lambda: len(risen.taken) >= 90)
            check_repeats(risen.requests)
            check_events(process, risen)
            assert process.stop() == 0
    finally:
        if process.process is not None:
            process.kill()
    said = process.diagnostics.read_text()
    assert "webhook dead: localhost: " in said
    assert SECRET not in said
    assert "/hook" not in said


def test_a_reload_adds_changes_and_removes_webhooks_and_tries_one_again_that_was_switched_off(tmp_path: Path) -> None:
    answers = {"status": 410}
    with (
        receiver(lambda _: Reply(answers["status"])) as gone,
        receiver() as other,
        engine(tmp_path / "engine", DOMAINS) as process,
    ):
        assert not (process.folder / "spool" / "webhooks.sqlite").exists(), "what is not asked for costs nothing"

        def configure(**hooks: Any) -> Sequence[str]:
            document = yaml.safe_load(process.config.read_text()) | {"webhook": hooks}
            process.config.write_text(yaml.safe_dump(document, sort_keys=False))
            with ControlClient(process.folder / "spool" / "control.sock") as client:
                (reloaded,) = client.ask_raw(Reload(check=False))
            return msgspec.json.decode(reloaded, type=Reloaded).options

        assert "webhook.shop" in configure(shop=webhook(gone.url))
        send(process, 1)
        gone.wait(lambda: bool(gone.requests))
        process.wait(lambda: webhooks(process)[0].state == "off")
        assert "is switched off" in process.diagnostics.read_text()
        send(process, 3)
        process.wait(lambda: webhooks(process)[0].events == 8)
        assert len(gone.requests) == 1
        answers["status"] = 200
        configure(shop=webhook(gone.url), other=webhook(other.url, events=["delivered"], domains=["/^SINK/"]))
        gone.wait(lambda: len(gone.taken) == 8)
        send(process, 1)
        gone.wait(lambda: len(gone.taken) == 10)
        other.wait(lambda: len(other.taken) == 1)
        answers["status"] = 500
        send(process, 2)
        process.wait(lambda: webhooks(process)[0].events == 4)
        process.wait(lambda: webhooks(process)[0].state == "down")
        process.kill()
        process.start()
        assert "webhook.shop.url" in configure(shop=webhook(other.url))
        # What waited is of the same four events as what the other one has: an event's id is for all webhooks.
        other.wait(lambda: len(other.taken) >= 1 + 2 + 4)
        assert len({event["event_id"] for event in other.taken}) == 1 + 4
        process.wait(lambda: [(one.name, one.state, one.events) for one in webhooks(process)] == [("shop", "up", 0)])
        shown = "".join(output_of(process, *each) for each in (["check"], ["status"]))
        configure()
        assert webhooks(process) == ()
        check_repeats(gone.requests)
        shown += process.diagnostics.read_text()
    assert "webhook shop" in shown
    assert SECRET not in shown
    assert "/hook" not in shown, "a URL may be a password"
