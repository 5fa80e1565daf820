"""Commands about selected deliveries, and about domains: their effect is seen in the logs and at the gateway."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcmt.message.identity import uuid_of
from tests.support.engine_process import EngineProcess, engine, mcmt_message
from tests.support.simulator_process import simulator
from tests.system.test_workers import submit, workers

A, B = "apn.example.com", "other.example.com"


def run(process: EngineProcess, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(process.command(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if not code else done.stderr


def said(process: EngineProcess, *arguments: str) -> dict[str, Any]:
    """What a command that does something says with --json."""
    told: dict[str, Any] = json.loads(run(process, *arguments, "--json"))
    return told


def many(process: EngineProcess, domain: str = A, sessions: int = 6, each: int = 5) -> list[str]:
    """Messages by several sessions, so that both workers have some; their batch ids."""
    return [batch for _ in range(sessions) for batch in submit(process, each, domain)]


def test_hold_release_reroute_bounce_and_delete_reach_both_shards(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        stanzas = {A: {**gateway.stanza, "suspend_delivery": False}, B: gateway.stanza}
        with engine(tmp_path / "engine", stanzas, workers=2) as process:
            workers(process)
            run(process, "domain", "suspend", A)
            run(process, "domain", "suspend", B)
            first, second = many(process), many(process, B, 4, 5)
            # hold and what is seen of it
            assert said(process, "queue", "hold", *first[:10], "--reason", "ask")["done"] == 10
            status = process.status()
            assert (status["queued"], status["held"]) == (50, 10)
            held = process.listing("queue", "list", "--held")
            assert {entry["id"] for entry in held} == {f"{one}-1" for one in first[:10]}
            assert "held 10" in run(process, "audit")
            # over a restart
            assert process.stop() == 0
            process.start()
            workers(process)
            run(process, "domain", "resume", A)
            process.wait_for("D", 20)
            assert {push["headers"]["apns-id"] for push in gateway.received} == {uuid_of(one, 1) for one in first[10:]}
            # end some of each of the rest: with a report owed, and without
            ended = said(process, "queue", "delete", "--domain", B, "--token", f"{0:064x}", "--reason", "mistake")
            assert (ended["deliveries"], ended["messages"], ended["done"]) == (4, 4, 4)
            # the rest of B goes through A
            assert said(process, "queue", "reroute", "--domain", B, "--to", A)["done"] == 16
            process.wait_for("D", 36)
            assert said(process, "queue", "release", "--all")["done"] == 10
            process.wait_for("D", 46)
            assert said(process, "queue", "retry", "--all")["deliveries"] == 0
            assert "proven" in run(process, "audit")
            assert process.stop() == 0
        pushes = Counter(push["headers"]["apns-id"] for push in gateway.received)
        assert set(pushes.values()) == {1}
    lines = [*process.logged("D"), *process.logged("P")]
    assert Counter(line[2] for line in lines) == Counter(f"{one}-1" for one in first + second)
    assert {line[5] for line in process.logged("D")} == {A}, "what was rerouted is logged under the domain that it took"
    assert [line[-1] for line in process.logged("P")] == ["5.7.0 [internal] manually failed: mistake"] * 4
    news = Counter(fields[6] for fields in process.mainlog if fields[4] == "N" and "by hand: " in fields[7])
    assert news["held"] in (1, 2), "one line a shard"
    assert news["rerouted"] in (1, 2)


def test_a_flush_under_load_ends_each_delivery_once_and_sends_none_of_them_after(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {token: '*', delay: 200ms}\n")
    with simulator(tmp_path / "gateway", "--max-streams", "5", "--rules", str(rules)) as gateway:
        stanzas = {A: {**gateway.stanza, "max_outbound_connections": 2}, B: gateway.stanza}
        with engine(tmp_path / "engine", stanzas, workers=2) as process:
            workers(process)
            load = [threading.Thread(target=submit, args=(process, 30, B)) for _ in range(2)]
            first = many(process, A, 8, 25)
            for thread in load:
                thread.start()
            told = said(process, "domain", "flush", A, "--reason", "withdrawn", "--quiet")
            for thread in load:
                thread.join(30)
            assert told["done"] > 100
            process.wait(lambda: len([*process.logged("D"), *process.logged("P")]) >= 260, 30)
            assert process.stop() == 0
        sent = Counter(push["headers"]["apns-id"] for push in gateway.received)
    ended = Counter(line[2] for line in [*process.logged("D"), *process.logged("P")])
    assert set(ended.values()) == {1}
    failed = {line[2] for line in process.logged("P")}
    assert len(failed) == told["done"]
    assert failed <= {f"{one}-1" for one in first}
    assert set(sent.values()) == {1}
    assert not {uuid_of(one.removesuffix("-1"), 1) for one in failed} & set(sent), "what was ended was not sent"


def test_a_suspension_for_a_while_ends_in_both_workers_and_is_told_once(tmp_path: Path) -> None:
    with (
        simulator(tmp_path / "gateway") as gateway,
        engine(tmp_path / "engine", {A: gateway.stanza}, workers=2) as process,
    ):
        workers(process)
        (status,) = process.listing("domain", "suspend", A, "--for", "4s", "--reason", "short")
        assert 0 < status["until"] <= 4
        many(process, A, 4, 3)
        assert process.apnlog == []
        process.wait_for("D", 12)
        news = [fields[6] for fields in process.mainlog if fields[4] == "N"]
        assert news == ["suspended", "resumed"]


def test_domains_are_listed_with_their_stanzas_and_shown(tmp_path: Path) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        stanzas = {A: {**gateway.stanza, "retry_interval": "10m", "max_retry_interval": "15m"}, B: gateway.stanza}
        with engine(tmp_path / "engine", stanzas) as process:
            process.send(mcmt_message(b'{"aps":{}}', token="dead500001" + "0" * 54), f"user@{A}")
            process.wait_for("T")
            listed = {domain["domain"]: domain for domain in process.listing("domain", "list")}
            assert set(listed) == {A, B}
            assert (listed[A]["queued"], listed[B]["state"]) == (1, "idle")
            (shown,) = process.listing("domain", "show", A)
            assert shown["settings"]["retry_interval"] == 600
            assert shown["answers"] == {"500 InternalServerError": 1}
            assert "last answer  1 x 500 InternalServerError" in run(process, "domain", "show", A)
            plain = run(process, "domain", "list").splitlines()
            assert [line.split("\t")[0] for line in plain] == [A, B]
            assert "no stanza for nowhere" in run(process, "domain", "show", "nowhere.example.com", code=1)


def test_nothing_is_done_that_was_not_said(tmp_path: Path) -> None:
    sink = {"delivery_method": "discard", "routes": ["discard://sink"], "suspend_delivery": True}
    with engine(tmp_path / "engine", {A: sink}) as process:
        process.send(b"Subject: hi\r\n\r\nhello\r\n", f"user@{A}", f"other@{A}")
        assert "--all" in run(process, "queue", "delete", "--reason", "x", code=2)
        assert "--reason" in run(process, "queue", "bounce", "--all", code=2)
        assert "expected the id" in run(process, "queue", "hold", "everything", code=2)
        assert said(process, "queue", "delete", "--all", "--reason", "x", "--dry-run") == {
            "deliveries": 2,
            "messages": 1,
            "domains": {A: {"deliveries": 2, "messages": 1, "held": 0}},
        }
        assert "no stanza" in run(process, "queue", "reroute", "--all", "--to", "nowhere.example.com", code=1)
        # On a terminal it asks, and no answer is no.
        assert "Delete 2 deliveries of 1 message? [y/N]" in on_a_terminal(process, "n\n", "queue", "delete", "--all")
        assert process.status()["queued"] == 2
        shown = on_a_terminal(process, "y\n", "queue", "delete", "--recipient", f"OTHER@{A}")
        assert "1 ended, nobody is told" in shown
        assert process.status()["queued"] == 1


def on_a_terminal(process: EngineProcess, answer: str, *arguments: str) -> str:
    """What a command shows to a person who answers its question."""
    master, slave = pty.openpty()
    command = process.command(*arguments, "--reason", "x")
    shown = b""
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 1.0)[0]:
                continue
            try:
                shown += os.read(master, 4096)
            except OSError:  # it has ended
                break
            if b"[y/N]" in shown and answer:
                os.write(master, answer.encode())
                answer = ""
    os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.parametrize("verb", ["bounce", "hold"])
def test_what_is_interrupted_or_killed_in_the_middle_is_whole(tmp_path: Path, verb: str) -> None:
    """Pages are transactions: kill -9 leaves each delivery as it was, or ended with its one line."""
    sink = {"delivery_method": "discard", "routes": ["discard://sink"], "suspend_delivery": True}
    mail = b"Subject: hi\r\n\r\nhello\r\n"
    with engine(tmp_path / "engine", {A: sink}, generate_bounces=False) as process:
        for _ in range(4):
            process.send(mail, *(f"user{number}@{A}" for number in range(900)))
        reason = ("--reason", "x")
        with subprocess.Popen(process.command("queue", verb, "--all", *reason), stdout=subprocess.DEVNULL) as asked:
            process.wait(lambda: begun(process, verb))
            process.kill()
            asked.wait(30)
        process.start()
        with subprocess.Popen(process.command("queue", verb, "--all", *reason), stdout=subprocess.DEVNULL) as asked:
            asked.send_signal(signal.SIGINT)
            asked.wait(30)
        said(process, "queue", verb, "--all", *reason)
        assert "proven" in run(process, "audit")
        status = process.status()
        if verb == "hold":
            assert status["held"] == status["queued"] == 3600
        else:
            assert status["queued"] == 0
            failed = Counter(fields[1] for fields in process.mainlog if fields[4] == "P")
            assert (len(failed), set(failed.values())) == (3600, {1})


def begun(process: EngineProcess, verb: str) -> bool:
    return any(fields[4] == ("P" if verb == "bounce" else "N") for fields in process.mainlog)
