"""One engine of several processes: the limits hold for all of them, and none of them can lose anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, apn_domain, engine, mcmt_message
from tests.support.http_api import TOKENS
from tests.support.peers import nginx
from tests.support.simulator_process import Simulator, simulator
from tests.support.tls import Certificates
from tests.system.test_crash import Sender

DOMAIN = "apn.example.com"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'


def submit(process: EngineProcess, count: int, domain: str = DOMAIN) -> list[str]:
    """Hand in *count* messages in one session, which one worker has; their batch ids.

    As a mail client does: what gets a 451 comes again, and when the worker is killed all the rest in another session.
    """
    accepted: list[str] = []
    while len(accepted) < count:
        with (
            contextlib.suppress(smtplib.SMTPServerDisconnected, ConnectionError),
            smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=30) as client,
        ):
            client.ehlo()
            while len(accepted) < count:
                client.mail("app@example.com")
                client.rcpt(f"user@{domain}")
                code, text = client.data(mcmt_message(PAYLOAD, token=f"{len(accepted):064x}"))
                assert code in (250, 451), text
                if code == 250:
                    accepted.append(text.split()[1].decode())
    return accepted


def workers(process: EngineProcess, count: int = 2) -> list[int]:
    """The pids of the workers, when all of them work."""
    deadline = time.monotonic() + 20
    while len((status := process.status())["workers"]) < count or status["missing"]:
        assert time.monotonic() < deadline, status
        time.sleep(0.05)  # the engine tells of its workers when it is asked
    return list(status["workers"])


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait(condition: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # processes of others have no event to wait for


def assert_each_once(process: EngineProcess, gateway: Simulator, accepted: list[str]) -> None:
    """Every accepted message reached the gateway under its one id, and has one line of its end."""
    assert {push["headers"]["apns-id"] for push in gateway.received} >= {uuid_of(one, 1) for one in accepted}
    lines = Counter(line[2] for line in process.logged("D"))
    assert set(lines) >= {f"{one}-1" for one in accepted}, "a delivery has no line"
    assert set(lines.values()) == {1}, "a delivery has two lines"


def test_what_two_workers_accept_is_delivered_and_logged_once_in_one_log(
    tmp_path: Path, certificates: Certificates
) -> None:
    with (
        nginx(tmp_path / "nginx", certificates) as peer,
        engine(tmp_path / "engine", {DOMAIN: apn_domain(peer.port, certificates)}, workers=2) as process,
    ):
        accepted = [batch for _ in range(6) for batch in submit(process, 20)]
        process.wait_for("D", 120)
        assert Counter(request.apns_id for request in peer.requests()) == Counter(uuid_of(one, 1) for one in accepted)
        shards = sorted(file.name for file in (tmp_path / "engine" / "spool").glob("shard-*.sqlite"))
        assert shards == ["shard-0.sqlite", "shard-1.sqlite"]
        pids = workers(process)
        assert process.process is not None
        assert process.process.pid not in pids
        assert process.stop() == 0
    assert Counter(line[2] for line in process.logged("D")) == Counter(f"{one}-1" for one in accepted)
    assert all(map(gone, pids)), "a worker is left behind"
    assert sum(fields[4] == "R" for fields in process.mainlog) == 120


def test_sessions_are_spread_evenly_and_counted_over_all_workers(tmp_path: Path) -> None:
    sink = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"]}}
    listen: dict[str, Any] = {"listen": {"127.0.0.1:0": {}}, "max_connections_per_address": 5}
    with engine(tmp_path / "engine", sink, workers=2, esmtp_listener=listen) as process:
        clients = [smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=10) for _ in range(5)]
        assert process.status()["sessions"] == 5
        children = [len(list(Path(f"/proc/{pid}/net/tcp").parent.glob("tcp"))) for pid in workers(process)]
        assert len(children) == 2
        with pytest.raises(smtplib.SMTPConnectError, match="max_connections_per_address"):
            smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=10)
        clients.pop().quit()
        wait(lambda: process.status()["sessions"] == 4)
        clients.append(smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=10))
        os.kill(workers(process)[0], signal.SIGKILL)
        wait(lambda: process.status()["sessions"] in (2, 3))
        for client in clients:
            client.close()


def test_sessions_through_a_proxy_count_for_its_clients_over_all_workers(tmp_path: Path) -> None:
    """More than one client may have, from one proxy; and each worker asks the supervisor for whom they count."""
    sink = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"]}}
    proxied = {"proxy_protocol": ["127.0.0.9"], "authorized_xclient_hosts": ["127.0.0.1"]}
    listen: dict[str, Any] = {"listen": {"127.0.0.1:0": proxied}, "max_connections_per_address": 4}

    def connect(client: int) -> tuple[socket.socket, bytes]:
        connection = socket.create_connection(("127.0.0.1", process.smtp_port), 20, source_address=("127.0.0.9", 0))
        connection.sendall(b"PROXY TCP4 192.0.2.%d 127.0.0.1 40000 25\r\n" % client)
        return connection, connection.recv(100)[:9]

    with engine(tmp_path / "engine", sink, workers=2, esmtp_listener=listen) as process:
        sessions = [connect(client) for client in (1, 2, 3) for _ in range(4)]
        assert [said[:4] for _, said in sessions] == [b"220 "] * 12
        refused, said = connect(1)
        assert said == b"421 4.7.0"
        refused.close()
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=20) as told:
            assert told.docmd("XCLIENT", "ADDR=192.0.2.1")[0] == 421
        sessions.pop(0)[0].close()
        wait(lambda: process.status()["sessions"] == 11)
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=20) as told:
            assert told.docmd("XCLIENT", "ADDR=192.0.2.1")[0] == 220
            connection, said = connect(1)
            assert said == b"421 4.7.0"
            connection.close()
        for connection, _ in sessions:
            connection.close()
        wait(lambda: process.status()["sessions"] == 0)


def test_clients_that_hang_up_at_once_or_fail_in_tls_are_not_counted_for_ever(
    tmp_path: Path, certificates: Certificates
) -> None:
    """As health checks and scanners do, at every door. Of a connection that was reset nobody knows whose it was."""
    tls = {"tls_certificate": str(certificates.server), "tls_key": str(certificates.server_key)}
    stanzas: dict[str, Any] = {
        "esmtp_listener": {"listen": {"127.0.0.1:0": {}}, "max_connections_per_address": 5},
        "propeller": {"listen": {"127.0.0.1:0": {"topics": {"topic": DOMAIN}, "auth_token": "secret-of-propeller"}}},
        "http_listener": {"listen": {"127.0.0.1:0": tls}, "tokens": {"shop": TOKENS["shop"]}},
    }

    def hang_up(port: int, said: bytes = b"") -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(said)
            # RST in place of FIN: what the other end asks about this connection fails from then on.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with engine(tmp_path / "engine", {DOMAIN: apn_domain(1, certificates)}, workers=2, **stanzas) as process:
        for _ in range(20):
            for port in (process.smtp_port, *process.doors.values()):
                hang_up(port)
                hang_up(port, b"neither TLS nor HTTP nor SMTP\r\n\r\n")
        wait(lambda: process.status()["sessions"] == 0)
        clients = [smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=10) for _ in range(5)]
        for client in clients:
            client.close()


@pytest.mark.parametrize("victim", [None, 0, 1])
def test_three_connections_are_three_for_both_workers_together_also_while_one_is_killed(
    tmp_path: Path, victim: int | None
) -> None:
    """All mail is in one shard, and the gateway takes two at a time on each connection."""
    with simulator(tmp_path / "gateway", "--max-streams", "2", "--rules", str(rules(tmp_path))) as gateway:
        stanza = {**gateway.stanza, "max_outbound_connections": 3, "retry_interval": "100ms"}
        with engine(tmp_path / "engine", {DOMAIN: stanza}, workers=2) as process:
            pids = workers(process)
            accepted = submit(process, 60)
            if victim is not None:
                wait(lambda: len(gateway.received) >= 10)
                os.kill(pids[victim], signal.SIGKILL)
            process.wait_for("D", 60, within=60)
            assert process.stop() == 0
        assert_each_once(process, gateway, accepted)
    (totals,) = gateway.said("totals")
    assert totals["connections_peak"] == 3


def rules(folder: Path, delay: str = "300ms") -> Path:
    """Every answer takes a while."""
    file = folder / "rules.yaml"
    file.write_text(f"rules:\n  - {{token: '*', delay: {delay}}}\n")
    return file


def test_clients_that_connect_for_one_message_each_are_served_in_turn(tmp_path: Path) -> None:
    sink = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"], "suspend_delivery": True}}
    with engine(tmp_path / "engine", sink, workers=2) as process:
        workers(process)
        for _ in range(6):
            submit(process, 1)
        held = [
            apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY).execute("SELECT count(*) FROM delivery").get
            for file in (tmp_path / "engine" / "spool").glob("shard-*.sqlite")
        ]
    assert held == [3, 3]


def test_a_single_connection_serves_both_workers(tmp_path: Path) -> None:
    """The domain has one owner; what the other worker receives for it is handed over before the 250."""
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {**gateway.stanza, "max_outbound_connections": 1}
        with engine(tmp_path / "engine", {DOMAIN: stanza}, workers=2) as process:
            workers(process)
            accepted = [batch for _ in range(10) for batch in submit(process, 5)]
            process.wait_for("D", 50)
            assert process.stop() == 0
        assert_each_once(process, gateway, accepted)
    (totals,) = gateway.said("totals")
    assert totals["connections_peak"] == 1
    assert totals["connections"] == 1, "the connection stayed open: it did not go round"


def test_while_the_owner_is_away_mail_for_its_domain_is_taken_all_the_same(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {**gateway.stanza, "max_outbound_connections": 1}
        with engine(tmp_path / "engine", {DOMAIN: stanza}, workers=2) as process:
            accepted = []
            for round_ in range(4):
                os.kill(workers(process)[round_ % 2], signal.SIGKILL)
                accepted += submit(process, 5)
            process.wait_for("D", 20, within=60)
            assert process.stop() == 0
        assert_each_once(process, gateway, accepted)
    (totals,) = gateway.said("totals")
    assert totals["connections_peak"] == 1


def test_kill_9_of_a_worker_under_load_loses_nothing_and_the_rest_go_on(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        with engine(tmp_path / "engine", {DOMAIN: gateway.stanza}, workers=2) as process:
            accepted: list[str] = []
            for round_ in range(4):
                pids = workers(process)
                senders = [Sender(process.smtp_port) for _ in range(4)]
                for sender in senders:
                    sender.start()
                wait(lambda senders=senders: sum(len(one.accepted) for one in senders) > 40)  # type: ignore[misc]
                os.kill(pids[round_ % 2], signal.SIGKILL)
                before = sum(len(one.accepted) for one in senders)
                wait(lambda senders=senders, before=before: sum(len(one.accepted) for one in senders) > before + 20)  # type: ignore[misc]
                for sender in senders:
                    sender.stopping.set()
                for sender in senders:
                    sender.join(20)
                    accepted += sender.accepted
            process.wait(lambda: {f"{one}-1" for one in accepted} <= {line[2] for line in process.logged("D")}, 60)
            assert process.stop() == 0
        assert_each_once(process, gateway, accepted)


def test_a_worker_that_is_started_again_reads_what_the_supervisor_has_read(tmp_path: Path) -> None:
    sink = {"delivery_method": "discard", "routes": ["discard://sink"]}
    included = tmp_path / "engine" / "conf.d" / "domain.yaml"
    included.parent.mkdir(parents=True)
    included.write_text(json.dumps({"domain": {DOMAIN: sink}}))
    with engine(tmp_path / "engine", {}, workers=2, include="conf.d/*.yaml") as process:
        pids = workers(process)
        included.write_text(json.dumps({"domain": {"other.example.com": sink}}))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait(lambda: not set(pids) & set(process.status()["workers"]))
        workers(process)
        submit(process, 1)
        assert process.stop() == 0


def test_kill_9_of_the_supervisor_leaves_no_process_and_loses_nothing(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: gateway.stanza}, workers=2)
        process.start()
        try:
            pids = workers(process)
            sender = Sender(process.smtp_port)
            sender.start()
            wait(lambda: len(sender.accepted) > 40)
            process.kill()
            sender.join(20)
            wait(lambda: all(map(gone, pids)), within=5)
            process.start()
            accepted = sender.accepted
            process.wait(lambda: {f"{one}-1" for one in accepted} <= {line[2] for line in process.logged("D")}, 60)
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
        assert_each_once(process, gateway, accepted)


@pytest.mark.parametrize("fewer", [1, 2])
def test_fewer_workers_adopt_the_shards_that_are_left_over_and_remove_them_when_empty(
    tmp_path: Path, fewer: int
) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        port, stanza = gateway.port, {**gateway.stanza, "retry_interval": "100ms", "max_retry_interval": "500ms"}
    process = EngineProcess(tmp_path / "engine", {DOMAIN: stanza}, workers=3)
    process.start()
    workers(process, 3)
    accepted = [batch for _ in range(9) for batch in submit(process, 3)]
    assert process.status()["queued"] == 27
    assert process.stop() == 0
    spool = tmp_path / "engine" / "spool"
    assert len(list(spool.glob("shard-*.sqlite"))) == 3
    process.config.write_text(process.config.read_text().replace("workers: 3", f"workers: {fewer}"))
    process.start()
    try:
        assert process.status()["queued"] == 27
        assert len(process.listing("queue", "list")) == 27
        with simulator(tmp_path / "gateway", port=port) as gateway:
            process.wait_for("D", 27, within=30)
            process.wait(lambda: len(list(spool.glob("shard-*.sqlite"))) == fewer, 20)
        # And more again: a shard made anew.
        assert process.stop() == 0
        process.config.write_text(process.config.read_text().replace(f"workers: {fewer}", "workers: 3"))
        process.start()
        with simulator(tmp_path / "gateway", port=port) as gateway:
            accepted += [batch for _ in range(6) for batch in submit(process, 3)]
            process.wait_for("D", 45, within=30)
        assert process.stop() == 0
    finally:
        if process.process is not None:
            process.kill()
    assert Counter(line[2] for line in process.logged("D")) == Counter(f"{one}-1" for one in accepted)


def test_commands_see_and_reach_both_shards(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        port, stanza = gateway.port, {**gateway.stanza, "retry_interval": "100ms", "max_retry_interval": "500ms"}
    with engine(tmp_path / "engine", {DOMAIN: stanza}, workers=2) as process:
        workers(process)
        process._command("domain", "suspend", DOMAIN, "--reason", "maintenance")
        accepted = [batch for _ in range(6) for batch in submit(process, 5)]
        (domain,) = process.status()["domains"]
        assert (domain["queued"], domain["state"]) == (30, "suspended by hand")
        listed = process.listing("queue", "list")
        assert {entry["id"] for entry in listed} == {f"{one}-1" for one in accepted}
        assert [entry["received"] for entry in listed] == sorted(entry["received"] for entry in listed)
        assert len(process.listing("queue", "list", "--limit", "7")) == 7
        for one in (accepted[0], accepted[-1]):
            (entry,) = process.listing("queue", "show", one)
            assert entry["id"] == f"{one}-1"
        assert process.stop() == 0
        process.start()
        workers(process)
        (domain,) = process.status()["domains"]
        assert (domain["queued"], domain["state"]) == (30, "suspended by hand"), "also over a restart"
        with simulator(tmp_path / "gateway", port=port) as gateway:
            process._command("domain", "resume", DOMAIN)
            process.wait_for("D", 30)
        news = [fields for fields in process.mainlog if fields[4] == "N"]
        assert sum("suspended" in "@".join(fields) for fields in news) == 1, "one worker tells, not both"


def test_a_worker_that_cannot_begin_is_told_of_and_nothing_is_left_running(tmp_path: Path) -> None:
    sink = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"]}}
    process = EngineProcess(tmp_path / "engine", sink, workers=2)
    (tmp_path / "engine" / "spool").mkdir(mode=0o700)
    (tmp_path / "engine" / "spool" / "shard-1.sqlite").write_bytes(b"this is not a database" * 100)
    command = [sys.executable, "-m", "mcmt", "serve", "--config", str(process.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "shard-1.sqlite" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_interrupt_of_a_terminal_reaches_every_process_and_the_engine_drains(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway", "--rules", str(rules(tmp_path, "4s"))) as gateway:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: gateway.stanza}, workers=2)
        process.start(start_new_session=True)
        assert process.process is not None
        pids = workers(process)
        accepted = submit(process, 10)
        wait(lambda: process.status()["resident"] > 0)
        os.killpg(process.process.pid, signal.SIGINT)
        assert process._reap(30) == 0
        assert all(map(gone, pids))
        told = {line[2] for line in process.logged("D")}
        pushed = [push["headers"]["apns-id"] for push in gateway.received]
        assert {uuid_of(one, 1) for one in accepted if f"{one}-1" in told} == set(pushed), (
            "what was on the wire is told"
        )
        assert len(pushed) == len(set(pushed))


def test_logins_that_fail_count_over_all_workers(tmp_path: Path, certificates: Certificates) -> None:
    users = tmp_path / "users"
    done = subprocess.run(
        [sys.executable, "-m", "mcmt", "passwd", "--stdin", "--users-file", str(users), "anna"],
        input="right password\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listen = {
        "listen": {
            "127.0.0.1:0": {
                "tls_certificate": str(certificates.server),
                "tls_key": str(certificates.server_key),
                "users_file": str(users),
            }
        },
        "auth_failures_per_address": 4,
    }
    sink = {DOMAIN: {"delivery_method": "discard", "routes": ["discard://sink"]}}

    def attempt() -> int:
        with smtplib.SMTP("127.0.0.1", process.smtp_port, timeout=20) as client:
            client.starttls()
            client.ehlo()
            client.user, client.password = "anna", "wrong password"
            try:
                return client.auth("PLAIN", client.auth_plain)[0]
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code

    with engine(tmp_path / "engine", sink, workers=2, esmtp_listener=listen) as process:
        codes = [attempt() for _ in range(4)]
        assert codes == [535] * 4, "one a session, so that both workers take part"
        assert attempt() != 535, "the fifth is not even tried, whichever worker has it"


def test_a_worker_that_lives_and_answers_nothing_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    """Stopped by SIGSTOP, in the middle of its work, by an engine that has patience for a second."""
    hasty = tmp_path / "python"
    code = (
        "import sys, mcmt.workers.process as process; process.PATIENCE, process.ROUND = 1.0, 0.2; "
        "from mcmt.cli import main; main()"
    )
    hasty.write_text(f"#!/bin/sh\nshift 2\nexec {sys.executable} -c '{code}' \"$@\"\n")
    hasty.chmod(0o755)
    with simulator(tmp_path / "gateway", "--rules", str(rules(tmp_path, "100ms"))) as gateway:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: gateway.stanza}, workers=2)
        process.python = str(hasty)
        process.start()
        pids = workers(process)
        accepted = submit(process, 40)
        os.kill(pids[0], signal.SIGSTOP)
        wait(lambda: "worker 0 has answered nothing for 2 s and is killed" in process.diagnostics.read_text())
        assert set(workers(process)) & set(pids) == {pids[1]}
        process.wait_for("D", 40, within=60)
        assert process.stop() == 0
        assert_each_once(process, gateway, accepted)
