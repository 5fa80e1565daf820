"""Tokens that a gateway calls gone: the real process, one worker and two, with the simulator in Apple's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_process import EngineProcess, apn_domain, engine, mcmt_message
from tests.support.feedback_service import Visit, feedback_service, tuples
from tests.support.mail_peers import smtp_sink
from tests.support.simulator_process import simulator
from tests.support.tls import Certificates
from tests.system.test_gateway import gateway

DOMAIN = "apn.example.com"
PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
GOOD = "ab" * 32
TOKEN_LOGGER = {"token_logger1": {"logfile": "logs/tokens.jsonl"}}


def dead(number: int) -> str:
    """One that the simulator answers 410 Unregistered."""
    return f"dead410000{number:054x}"


def token_log(process: EngineProcess) -> list[dict[str, Any]]:
    file = process.folder / "logs" / "tokens.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def tokens(process: EngineProcess, *arguments: str, given: str = "") -> str:
    command = [sys.executable, "-m", "mcmt", "tokens", *arguments, "--config", str(process.config)]
    done = subprocess.run(command, capture_output=True, text=True, input=given, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(process: EngineProcess, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tokens(process, "list", "--json", *arguments).splitlines()]


def workers_of(process: EngineProcess, count: int) -> list[int]:
    while len((status := process.status())["workers"]) < count or status["missing"]:
        time.sleep(0.05)  # the engine tells of its workers when it is asked
    return list(status["workers"])


@pytest.mark.parametrize("workers", [1, 2])
def test_each_answer_is_one_line_and_each_token_one_row_over_kills_in_the_middle(tmp_path: Path, workers: int) -> None:
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {**gateway.stanza, "retry_interval": "100ms"}
        domains = {DOMAIN: stanza, "*": {"delivery_method": "discard", "routes": ["discard://sink"]}}
        process = EngineProcess(tmp_path / "engine", domains, workers=workers, token_logger=TOKEN_LOGGER)
        process.start()
        try:
            sent = 0
            for _ in range(4):
                for _ in range(6):
                    many = ",".join(map(dead, range(sent, sent + 40)))
                    process.send(mcmt_message(PAYLOAD, token=f"{many},{GOOD}"), f"user@{DOMAIN}")
                    sent += 40
                begun = len(token_log(process))
                process.wait(lambda begun=begun: len(token_log(process)) > begun)  # type: ignore[misc]
                if workers == 1 or sent > 700:
                    process.kill()
                    process.start()
                else:
                    victim = workers_of(process, workers)[sent // 240 % 2]
                    os.kill(victim, signal.SIGKILL)
                    process.wait(lambda victim=victim: victim not in workers_of(process, workers))  # type: ignore[misc]
            process.wait_for("P", sent, within=60)
            process.wait_for("D", 24, within=60)
            process.wait(lambda: len(token_log(process)) >= sent)
            workers_of(process, workers)
            rows = listed(process)
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
        lines = token_log(process)
        failed = {fields[2] for fields in process.logged("P")}
        assert Counter(line["id"] for line in lines) == Counter(failed), "an answer is not exactly one line"
        assert Counter(line["token"] for line in lines) == Counter(map(dead, range(sent)))
        assert Counter(row["token"] for row in rows) == Counter(map(dead, range(sent)))
        line, row = lines[0], next(row for row in rows if row["token"] == lines[0]["token"])
        assert (line["event"], line["domain"], line["reason"], line["source"]) == (
            *("gone", DOMAIN, "410 Unregistered", "push"),
        )
        assert (row["since"], row["reason"], row["delivery"]) == (line["since"], line["reason"], line["id"])
        assert 0 < line["since"] <= line["time"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gone_token_is_suppressed_by_every_worker_within_a_second_until_it_is_lifted(
    tmp_path: Path, workers: int
) -> None:
    token = dead(1)
    with simulator(tmp_path / "gateway") as gateway, smtp_sink() as sink:
        stanza = {**gateway.stanza, "suppress_gone_tokens": True}
        mail = {"delivery_method": "smtp", "routes": [sink.route], "retry_interval": "100ms"}
        with engine(
            tmp_path / "engine", {DOMAIN: stanza, "*": mail}, workers=workers, token_logger=TOKEN_LOGGER
        ) as process:

            def send(*more: str, headers: str = "") -> str:
                return process.send(
                    mcmt_message(PAYLOAD, token=",".join((token, *more)), headers=headers), f"user@{DOMAIN}"
                )

            send()
            process.wait_for("P", 1)
            time.sleep(1.0)  # the promise is: within a second
            # Sessions go to the workers in turn.
            batches = [send() for _ in range(2 * workers)]
            batches.append(send(GOOD))
            failed = process.wait_for("P", 2 + 2 * workers)
            process.wait_for("D", 1)
            assert [push["token"] for push in gateway.received] == [token, GOOD]
            for fields in failed[1:]:
                assert fields[2].removesuffix("-1") in batches
                assert fields[-2] == "550"
                assert fields[-1].startswith("5.1.6 [internal] device token gone since ")
            bounces = sink.messages(2 + 2 * workers)
            assert sum(b"Status: 5.1.6" in bounce and token.encode() in bounce for bounce in bounces) == len(bounces)
            assert sum(b"[internal] device token gone" in bounce for bounce in bounces) == len(bounces) - 1

            # One that has registered since is sent, and what the gateway says then holds.
            (row,) = listed(process)
            earlier = f"X-Device-Registered: {int(row['since']) - 5}\r\n"
            send(headers=earlier)
            process.wait_for("P", 3 + 2 * workers)
            assert len(gateway.received) == 2
            send(headers=f"X-Device-Registered: {int(row['since']) + 1}\r\n")
            process.wait_for("P", 4 + 2 * workers)
            assert len(gateway.received) == 3
            process.wait(lambda: len(token_log(process)) == 3)
            assert [line["event"] for line in token_log(process)] == ["gone", "registered", "gone"]

            assert tokens(process, "forget", DOMAIN, token) == "1 tokens forgotten\n"
            assert listed(process) == []
            send()
            process.wait_for("P", 5 + 2 * workers)
            assert len(gateway.received) == 4
            process.wait(lambda: len(listed(process)) == 1)


def test_what_is_exported_can_be_imported_and_a_large_listing_is_streamed(tmp_path: Path) -> None:
    sink = {"delivery_method": "discard", "routes": ["discard://sink"]}
    with engine(tmp_path / "engine", {DOMAIN: sink}) as process:
        many = "".join(
            json.dumps({"domain": DOMAIN, "token": f"{number:064x}", "since": 1_600_000_000 + number}) + "\n"
            for number in range(5000)
        )
        assert tokens(process, "import", "-", given=many) == "5000 tokens read, 5000 of them new\n"
        assert tokens(process, "import", "-", given=many) == "5000 tokens read, 0 of them new\n"
        rows = listed(process)
        assert [row["since"] for row in rows] == [1_600_000_000 + number for number in range(5000)]
        assert [row["source"] for row in rows] == ["import"] * 5000
        assert listed(process, "--after", str(rows[4997]["number"])) == rows[4998:]
        exported = tokens(process, "export", DOMAIN)
        assert exported.splitlines()[0] == "domain,token,since,state,learned,reason,source,delivery,number"
        assert len(exported.splitlines()) == 5001
        names = "\n".join(row["token"] for row in rows[:120])
        assert tokens(process, "forget", DOMAIN, "-", given=names) == "120 tokens forgotten\n"
        assert tokens(process, "forget", DOMAIN, "--all") == "4880 tokens forgotten\n"
        assert tokens(process, "import", "-", given=exported) == "5000 tokens read, 5000 of them new\n"
        shown = tokens(process, "list", DOMAIN, "--limit", "1").splitlines()
        assert shown[0].split()[:3] == ["DOMAIN", "TOKEN", "STATE"]
        assert shown[1].split()[:4] == [DOMAIN, f"{0:064x}", "gone", "2020-09-13T12:26:40Z"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_feedback_service_is_read_by_one_and_killed_in_the_middle_is_read_again(
    tmp_path: Path, certificates: Certificates, workers: int
) -> None:
    told = [(1_600_000_000 + number, f"{number:064x}") for number in range(3000)]
    whole = tuples(*told)

    def visit(number: int) -> Visit:
        if number == 1:  # dies in a tuple
            return Visit((whole[:50], whole[50:20_010]), "reset")
        if number == 2:  # and this time the reader does
            return Visit((whole[:60_000],), "silence")
        return Visit(tuple(whole[start : start + 777] for start in range(0, len(whole), 777)))

    with feedback_service(certificates, visit) as service:
        # The private gateway itself is not there, and nothing is sent to it.
        stanza = apn_domain(9, certificates, feedback={"route": service.route, "interval": "1s"})
        domains = {DOMAIN: stanza, "*": {"delivery_method": "discard", "routes": ["discard://sink"]}}
        process = EngineProcess(tmp_path / "engine", domains, workers=workers, token_logger=TOKEN_LOGGER)
        process.start()
        try:
            service.wait(lambda: service.sent == 2)
            process.wait(lambda: len(token_log(process)) >= 60_000 // 38)
            if workers == 1:
                process.kill()
                process.start()
            else:
                os.kill(workers_of(process, workers)[0], signal.SIGKILL)
            service.wait(lambda: "closed" in service.visits)
            process.wait(lambda: len(token_log(process)) >= len(told))
            workers_of(process, workers)
            assert [(row["since"], row["token"], row["source"]) for row in listed(process)] == [
                (float(since), token, "feedback") for since, token in told
            ]
            # Asked again, it tells what is known.
            service.wait(lambda: service.visits.count("closed") >= 2)
            process.wait(
                lambda: "told 3000 device tokens, 0 of them" in (process.folder / "logs" / "mainlog.ec").read_text()
            )
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()
        assert service.visits[:2] == ["was reset", "reset"]
        assert "it is tried again" in process.diagnostics.read_text()
        assert Counter(line["token"] for line in token_log(process)) == Counter(token for _, token in told)


def test_what_one_engines_door_has_to_tell_anothers_reader_takes_and_then_the_door_has_told_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    sink = {"delivery_method": "discard", "routes": ["discard://sink"]}
    apn = apn_domain(9, certificates)
    door = {"apns_gateway": gateway(certificates)}
    known = "".join(
        json.dumps({"domain": DOMAIN, "token": f"{number:064x}", "since": 1_600_000_000 + number}) + "\n"
        for number in range(3000)
    )
    with engine(tmp_path / "door", {DOMAIN: apn, "*": sink}, **door) as telling:
        tokens(telling, "import", "-", given=known)
        stanza = {**apn, "feedback": {"route": f"apn-feedback://localhost:{telling.feedback_port}", "interval": "1s"}}
        with engine(tmp_path / "reader", {DOMAIN: stanza, "*": sink}, token_logger=TOKEN_LOGGER) as reading:
            reading.wait(lambda: len(token_log(reading)) >= 3000)
            mainlog = reading.folder / "logs" / "mainlog.ec"
            reading.wait(lambda: "told 0 device tokens" in mainlog.read_text())
            assert "told 3000 device tokens, 3000 of them not known to be gone" in mainlog.read_text()
            rows = listed(reading)
    assert [(row["token"], row["since"]) for row in rows] == [
        (f"{number:064x}", 1_600_000_000.0 + number) for number in range(3000)
    ]
