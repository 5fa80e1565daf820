"""kill -9 under load: what got its 250 is delivered, and stands in the log once."""

from __future__ import annotations

import contextlib
import random
import smtplib
import threading
import time
from collections import Counter
from pathlib import Path

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, apn_domain, mcmt_message
from tests.support.peers import nginx
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates

DOMAIN = "apn.example.com"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
ROUNDS = 4
SESSIONS = 4


class Sender(threading.Thread):
    """One application: submits until told to stop, and keeps the ids that got a 250."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.accepted: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        # The engine is killed in the middle of this: a refused or broken connection ends the round.
        with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", self.port) as client:
            client.ehlo()
            while not self.stopping.is_set():
                client.mail("app@example.com")
                client.rcpt(f"user@{DOMAIN}")
                code, text = client.data(mcmt_message(PAYLOAD))
                if code == 250:
                    self.accepted.append(text.split()[1].decode())


def test_what_was_accepted_before_a_kill_is_delivered_after_it_and_logged_once(
    tmp_path: Path, certificates: Certificates
) -> None:
    """250 while the gateway is away, kill -9, restart with the gateway back: delivered, one D line."""
    with simulator(tmp_path / "gateway") as gateway:
        stanza, port = gateway.stanza, gateway.port
    process = EngineProcess(tmp_path / "engine", {DOMAIN: {**stanza, "retry_interval": "100ms"}})
    process.start()
    batch_id = process.send(mcmt_message(PAYLOAD), f"user@{DOMAIN}")
    process.kill()
    with simulator(tmp_path / "gateway", port=port) as gateway:
        process.start()
        try:
            (line,) = process.wait_for("D")
        finally:
            process.stop()
        assert line[2] == f"{batch_id}-1"
        assert [push["apns_id"] for push in gateway.received] == [uuid_of(batch_id, 1)]


def test_repeated_kills_under_load_lose_nothing_and_log_everything_once(
    tmp_path: Path, certificates: Certificates
) -> None:
    """The senders' own record of 250s against nginx's requests and the log's lines."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    accepted: list[str] = []
    with nginx(tmp_path / "nginx", certificates) as peer:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: apn_domain(peer.port, certificates)})
        for _ in range(ROUNDS):
            process.start()
            senders = [Sender(process.smtp_port) for _ in range(SESSIONS)]
            for sender in senders:
                sender.start()
            time.sleep(moments.uniform(0.3, 1.2))  # the moment of the kill is what is tried
            process.kill()
            for sender in senders:
                sender.stopping.set()
                sender.join(10)
                accepted += sender.accepted
        process.start()
        try:
            process.wait(lambda: process.listing("queue", "list") == [])
            process.wait_for("D", len(accepted))
        finally:
            assert process.stop() == 0
        requests = Counter(request.apns_id for request in peer.requests())
    lines = Counter(line[2] for line in process.apnlog)
    print(f"seed {seed}: {len(accepted)} accepted, {sum(requests.values()) - len(requests)} repeated")
    assert accepted, f"seed {seed}"
    assert {f"{batch_id}-1" for batch_id in accepted} <= set(lines), f"seed {seed}: an accepted message has no line"
    assert set(lines.values()) == {1}, f"seed {seed}: a line stands twice"
    assert {uuid_of(batch_id, 1) for batch_id in accepted} <= set(requests), f"seed {seed}: one was never pushed"
    assert {line[1] for line in process.apnlog} == {"D"}
    # A repeat is a push whose answer was not yet settled when the kill came: at most what was in flight.
    assert all(count <= 1 + ROUNDS for count in requests.values()), f"seed {seed}"
    receptions = Counter(line[1] for line in process.mainlog if line[4] == "R")
    assert set(receptions.values()) == {1}, f"seed {seed}: a reception stands twice"
    assert set(receptions) == set(lines), f"seed {seed}: receptions and final lines differ"
