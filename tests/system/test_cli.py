"""The commands against a real engine."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.commands import Command, run, staying

TOKEN = "ab" * 32
CONFIG = """\
hostname: localhost
spool: {path: spool}
esmtp_listener: {listen: {"127.0.0.1:0": {mcmt_reception: allow}}}
drain_timeout: 1
domain:
  held.example.com: {delivery_method: apn, routes: ["apn://127.0.0.1:1"], suspend_delivery: true, %(key)s}
  apn.example.com: {delivery_method: apn, routes: ["apn://127.0.0.1:%(port)s"], tls_ca: keys/ca.pem, %(key)s}
  sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}
apn_logger: {log1: {logfile: apnlog.ec}}
"""
SENT = re.compile(r"250 2\.0\.0 ([0-9a-f]{24}) queued")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a configuration, and a simulator running that it pushes to."""
    path = tmp_path_factory.mktemp("cli")
    simulate = ("simulate", "apns", "--listen", "127.0.0.1:0", "--credentials", "keys", "--topic", "t", "--json")
    with staying(path, *simulate) as simulator:
        told = json.loads(simulator.wait_for("listening"))
        key = ", ".join(
            f"{name}: {json.dumps(told[name])}" for name in ("apn_auth_key", "apn_key_id", "apn_team_id", "apn_topic")
        )
        (path / "config").mkdir()
        (path / "mcmt.yaml").write_text(CONFIG % {"port": told["port"], "key": key})
        yield path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Command]:
    """An engine that runs with it."""
    with staying(folder, "serve", "--config", "mcmt.yaml") as serving:
        serving.wait_for("mainlog.ec")
        yield serving
        assert serving.stop() == 0
        assert "Traceback" not in "\n".join(serving.errors)
    assert not (folder / "spool" / "control.sock").exists()


def send(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run(folder, "send", "--config", "mcmt.yaml", *arguments)
    return done.returncode, done.stdout, done.stderr


# -- serve ------------------------------------------------------------------------------------------------------------


def test_serve_says_where_it_listens_keeps_and_writes(engine: Command, folder: Path) -> None:
    assert re.fullmatch(r"SMTP on 127\.0\.0\.1:\d+", engine.wait_for("SMTP on "))
    assert f"control socket {folder}/spool/control.sock" in engine.wait_for("spool")
    assert engine.wait_for("apnlog.ec") == f"log {folder}/apnlog.ec"


def test_a_second_engine_on_the_same_spool_is_refused_by_the_firsts_pid(engine: Command, folder: Path) -> None:
    done = run(folder, "serve", "--config", "mcmt.yaml")
    assert (done.returncode, str(engine.process.pid) in done.stderr) == (1, True), done.stderr


# -- send -------------------------------------------------------------------------------------------------------------


def test_send_prints_the_reply_and_with_wait_the_lines_up_to_the_final_one(engine: Command, folder: Path) -> None:
    code, output, errors = send(folder, "--to", "push@apn.example.com", "--token", TOKEN, "--alert", "hi", "--wait")
    assert (code, errors) == (0, "")
    reply, reception, final = output.splitlines()
    sent = SENT.fullmatch(reply)
    assert sent
    assert f"@{sent[1]}-1@{sent[1]}@" in reception
    assert "@R@push@apn.example.com@" in reception
    assert final in (folder / "apnlog.ec").read_text().splitlines()
    assert f"@D@{sent[1]}-1@" in final


def test_send_waits_for_every_delivery_of_the_message(engine: Command, folder: Path) -> None:
    tokens = [argument for number in range(5) for argument in ("--token", f"{number:064x}")]
    code, output, _ = send(folder, "--to", "push@apn.example.com", *tokens, "--alert", "hi", "--wait")
    assert (code, output.count("@D@")) == (0, 5)


def test_send_fails_when_a_delivery_does(engine: Command, folder: Path) -> None:
    dead = "dead410000".ljust(64, "0")
    given = ("--to", "push@apn.example.com", "--token", TOKEN, "--token", dead, "--alert", "hi")
    code, output, errors = send(folder, *given, "--wait")
    assert (code, "1 of 2 deliveries failed" in errors) == (1, True)
    assert "@410@Unregistered" in output


def test_send_fails_when_the_time_is_over(engine: Command, folder: Path) -> None:
    given = ("--to", "push@held.example.com", "--token", TOKEN, "--alert", "hi")
    code, output, errors = send(folder, *given, "--wait", "0.3")
    sent = SENT.search(output)
    assert sent
    assert (code, f"mcmt queue show {sent[1]}" in errors) == (1, True)


def test_send_shows_the_main_logs_line_where_a_channel_has_no_log(engine: Command, folder: Path) -> None:
    code, output, _ = send(folder, "--to", "a@sink.example.com", "--alert", "hi", "--wait")
    assert (code, "@D@sink.example.com@" in output) == (0, True)


def test_send_shows_a_refusal_with_the_listeners_words(engine: Command, folder: Path) -> None:
    code, _, errors = send(folder, "--to", "push@apn.example.com", "--token", "xyz", "--alert", "hi")
    assert (code, "refused at message: 554 5.1.3 " in errors) == (1, True)
    code, _, errors = send(folder, "--to", "push@nowhere.example.com", "--token", TOKEN, "--alert", "hi")
    assert (code, "refused at RCPT TO: 550 5.1.2 " in errors) == (1, True)


def test_send_goes_to_the_first_apn_domain_by_default(engine: Command, folder: Path) -> None:
    code, output, _ = send(folder, "--token", TOKEN, "--alert", "hi", "--wait", "0.2")
    assert (code, "@R@push@held.example.com@" in output) == (1, True)


def test_a_payload_from_a_file_arrives_byte_for_byte_with_its_headers(engine: Command, folder: Path) -> None:
    payload = '{"aps": {"alert": "Grüße\\n"},\n\t"x": "' + "y" * 2000 + '"}'
    (folder / "push.json").write_text(payload)
    given = ("--to", "push@held.example.com", "--token", "77" * 32, "--payload", "push.json")
    code, output, _ = send(folder, *given, "--header", "apns-priority: 5")
    sent = SENT.search(output)
    assert (code, bool(sent)) == (0, True)
    entry = json.loads(run(folder, "queue", "show", "--json", "--config", "mcmt.yaml", sent[1] if sent else "").stdout)
    assert entry["size"] == len(payload.encode())


def test_send_needs_no_configuration_when_told_where_to(engine: Command, folder: Path, tmp_path: Path) -> None:
    where = engine.wait_for("SMTP on ").removeprefix("SMTP on ")
    given = ("--smtp", where, "--to", "push@apn.example.com", "--token", TOKEN, "--alert", "hi")
    done = run(tmp_path, "send", *given)
    assert (done.returncode, bool(SENT.fullmatch(done.stdout.strip()))) == (0, True), done.stderr


def test_send_without_a_listener_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    given = ("--smtp", f"127.0.0.1:{port}", "--to", "a@apn.example.com", "--token", TOKEN, "--alert", "hi")
    done = run(tmp_path, "send", *given)
    assert (done.returncode, f"127.0.0.1:{port}: nothing listens there" in done.stderr) == (1, True)


# -- status, queue ----------------------------------------------------------------------------------------------------


def test_status_shows_the_engine_and_a_domain_that_is_held(engine: Command, folder: Path) -> None:
    send(folder, "--to", "push@held.example.com", "--token", TOKEN, "--alert", "hi")
    done = run(folder, "status", "--config", "mcmt.yaml")
    assert done.returncode == 0, done.stderr
    assert f"pid {engine.process.pid}," in done.stdout
    assert re.search(r"^held\.example\.com +suspended ", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
    assert "suspend_delivery" in done.stdout


def test_status_as_json_is_one_object(engine: Command, folder: Path) -> None:
    send(folder, "--to", "push@held.example.com", "--token", TOKEN, "--alert", "hi")
    told = json.loads(run(folder, "status", "--json", "--config", "mcmt.yaml").stdout)
    assert told["pid"] == engine.process.pid
    assert told["addresses"][0][0] == "127.0.0.1"
    held = next(domain for domain in told["domains"] if domain["domain"] == "held.example.com")
    assert held["queued"] >= 1
    assert told["queued"] >= held["queued"]


def test_queue_list_and_show_tell_of_what_has_not_ended(engine: Command, folder: Path) -> None:
    _, output, _ = send(folder, "--to", "push@held.example.com", "--token", "12" * 32, "--alert", "hi")
    sent = SENT.search(output)
    assert sent
    listed = run(folder, "queue", "list", "held.example.com", "--config", "mcmt.yaml").stdout
    (columns,) = (line.split("\t") for line in listed.splitlines() if line.startswith(sent[1]))
    assert columns[:5] == [f"{sent[1]}-1", "held.example.com", "push@held.example.com", "12" * 32, "due"]
    limited = run(folder, "queue", "list", "--limit", "1", "--json", "--config", "mcmt.yaml").stdout
    assert [type(json.loads(line)) for line in limited.splitlines()] == [dict]
    shown = run(folder, "queue", "show", f"{sent[1]}-1", "--config", "mcmt.yaml").stdout
    assert f"token        {'12' * 32}" in shown
    assert "attempts     0" in shown


def test_queue_show_of_what_has_ended_fails_and_says_so(engine: Command, folder: Path) -> None:
    done = run(folder, "queue", "show", "0123", "--config", "mcmt.yaml")
    assert (done.returncode, "has no delivery 0123" in done.stderr) == (1, True)


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_says_what_it_found_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    done = run(folder, "check", "mcmt.yaml")
    assert (done.returncode, sorted(folder.rglob("*"))) == (0, before), done.stderr
    assert "apn_auth_key: provider token: " in done.stdout
    assert "domain sink.example.com: discard to discard://sink" in done.stdout
    assert f"spool {folder}/spool: can be written" in done.stdout
    assert f"log {folder}/apnlog.ec: can be written" in done.stdout


def test_check_refuses_what_serve_would_refuse(folder: Path) -> None:
    (folder / "shared").mkdir(mode=0o755)
    (folder / "shared" / "of-others").write_text("")
    config = (folder / "mcmt.yaml").read_text()
    for wanted, stanza in (
        (f"control socket {folder}/mcmt.yaml: is there and is no socket", "control: {socket: mcmt.yaml}"),
        (f"control socket {folder}/no/x.sock: its folder {folder}/no does not exist", "control: {socket: no/x.sock}"),
        ("log /dev/null: is not a regular file", "ec_logger: {one: {mainlog: /dev/null}}"),
        (f"spool {folder}/shared: holds other things (of-others)", "spool: {path: shared}"),
    ):
        kept = [line for line in config.splitlines() if not line.startswith(stanza.partition(":")[0])]
        (folder / "bad.yaml").write_text("\n".join([*kept, stanza, ""]))
        for command in ("check", "serve"):
            done = run(folder, command, "--config", "bad.yaml")
            assert done.returncode == (2 if command == "check" else 1), (command, stanza, done.stdout, done.stderr)
            assert wanted in done.stderr or command == "serve"
            assert "good" not in done.stdout


def test_check_warns_when_the_disk_has_less_than_min_free(folder: Path, tmp_path: Path) -> None:
    config = (folder / "mcmt.yaml").read_text()
    wanting = folder / "wanting.yaml"
    wanting.write_text(config.replace("spool: {path: spool", "spool: {min_free: 9000000GB, path: spool"))
    done = run(folder, "check", "wanting.yaml")
    assert done.returncode == 0, done.stderr
    assert "warning: spool.min_free: " in done.stderr
    assert "lower min_free" in done.stderr
