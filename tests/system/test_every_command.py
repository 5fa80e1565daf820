"""Every command that there is, typed against a running engine of two workers, as docs/operations.md shows it."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import xmlrpc.client
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from mcmt.cli import main
from tests.support.engine_process import EngineProcess
from tests.support.simulator_process import Simulator, simulator

SHOP, AWAY, SPARE = "shop.example.com", "away.example.com", "spare.example.com"
DEVICE = "9b1f4c2e7a6d83059e1b4f7c2a6d8305f1e2d3c4b5a697887766554433221100"
GONE = "dead410000000000000000000000000000000000000000000000000000000000"
APP = "com.example.chat"
MADE = f"{APP}.sandbox.apps.example.com"
ELSEWHERE = {"serve": "runs the whole time", "simulate apns": "and so does this", "demo": "system/test_demo.py"}
"""Not typed here."""


def leaves(command: click.Command = main, path: tuple[str, ...] = ()) -> list[str]:
    """Every command that is none of commands, and is not hidden."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        members = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [leaf for name, one in members if one and not one.hidden for leaf in leaves(one, (*path, name))]
    return [" ".join(path)]


class Terminal:
    """Where the commands are typed. What stands in it goes into the manual."""

    def __init__(self, process: EngineProcess) -> None:
        self.process = process
        self.typed: set[str] = set()

    def type(self, line: str, *, given: str = "", config: bool = True) -> str:
        _, *words = shlex.split(line)
        arguments = [*words, "--config", str(self.process.config)] if config else words
        with contextlib.chdir(self.process.folder):
            # In this process: 40 interpreters would take their half second each.
            done = CliRunner().invoke(main, arguments, input=given, catch_exceptions=False)
        print(f"$ {line}\n{done.output}")
        assert done.exit_code == 0, done.output
        self.typed |= {leaf for leaf in leaves() if f"{' '.join(words)} ".startswith(f"{leaf} ")}
        return done.stdout


def stanzas(apple: Simulator) -> dict[str, Any]:
    """Those that commands of their own are for."""
    return {
        "pyapns": {
            "listen": {
                "127.0.0.1:0": {
                    "make_domains": {
                        "suffix": "apps.example.com",
                        "domain_group": "made",
                        "sandbox": apple.stanza["routes"],
                    }
                }
            }
        },
        "domain_group": {"made": {"tls_ca": apple.stanza["tls_ca"]}},
        "xmpp_component": {
            "127.0.0.1:1": {"jid": "push.example.com", "secret": "s3cret", "domain": SHOP, "servers": ["example.com"]}
        },
        "generate_bounces": False,
        "retry_interval": "1h",
    }


def test_every_command_does_what_the_manual_shows(tmp_path: Path) -> None:
    with simulator(tmp_path / "apple") as apple:
        away = {**apple.stanza, "routes": ["apn://127.0.0.1:1"]}
        domains = {SHOP: apple.stanza, AWAY: away, SPARE: apple.stanza}
        process = EngineProcess(tmp_path / "engine", domains, workers=2, **stanzas(apple))
        process.start()
        try:
            _type_all(Terminal(process), apple, tmp_path)
            assert process.stop() == 0
        finally:
            if process.process is not None:
                process.kill()


def _type_all(terminal: Terminal, apple: Simulator, folder: Path) -> None:
    process, enter = terminal.process, terminal.type
    smtp = f"--smtp 127.0.0.1:{process.smtp_port}"

    # What is configured.
    assert "mcmt.yaml: good" in enter("mcmt check")
    assert json.loads(enter("mcmt check --json"))["good"]
    assert re.search(r"apn_topic +com\.example\.app", enter(f"mcmt config explain {SHOP}"))
    assert '"$schema"' in enter("mcmt config schema", config=False)
    assert "nothing in it has changed" in enter("mcmt reload")

    # Some pushes: one that arrives, one to a device that is gone, four that cannot be sent now.
    assert "@D@" in enter(f'mcmt send {smtp} --to push@{SHOP} --token {DEVICE} --alert "You have mail" --wait')
    reply, *lines = map(
        json.loads,
        enter(f"mcmt send {smtp} --to push@{SHOP} --token {DEVICE} --alert Hello --wait --json").splitlines(),
    )
    assert [reply["id"] in line["line"] for line in lines] == [True, True]
    enter(f"mcmt send {smtp} --to push@{SHOP} --token {GONE} --alert Hello")
    process.wait_for("P")
    ids = []
    for number in range(6):
        said = enter(f"mcmt send {smtp} --to push@{AWAY} --token {number:064x} --alert Hello")
        ids.append(f"{said.split()[2]}-1")

    # What waits, and what can be done with it.
    assert re.search(rf"{AWAY} +\S+ +0 +0 +\d+ +6 ", enter("mcmt status"))
    assert enter(f"mcmt queue list {AWAY}").count(AWAY) >= 6
    assert f"{ids[0]}" in enter(f"mcmt queue show {ids[0]}")
    assert "1 held" in enter(f'mcmt queue hold {ids[0]} --reason "ask the customer" --yes')
    assert "1 released" in enter(f"mcmt queue release {ids[0]} --yes")
    enter(f"mcmt queue retry {AWAY}")
    assert "1 sent another way" in enter(f"mcmt queue reroute {ids[1]} --to {SPARE} --yes")
    enter(f'mcmt queue bounce {ids[2]} --reason "wrong campaign" --yes')
    enter(f'mcmt queue delete {ids[3]} --reason "of a test" --yes')
    process.wait_for("D", 3)

    # Domains.
    assert SPARE in enter("mcmt domain list")
    assert "suspended by hand" in enter(f'mcmt domain suspend {AWAY} --for 2h --reason "new certificate"')
    assert "new certificate" in enter(f"mcmt domain show {AWAY}")
    assert "suspended" not in enter(f"mcmt domain resume {AWAY}")
    enter(f'mcmt domain flush {AWAY} --reason "the app is no more" --yes')
    assert enter(f"mcmt queue list {AWAY}") == ""

    # What has happened, what happens.
    assert "@P@" in enter("mcmt log tail -n 2 --log apn_logger1")
    assert ids[2] in enter(f"mcmt log grep --id {ids[2]}")
    assert "the app is no more" in enter("mcmt log summary")
    assert AWAY in enter("mcmt top --once") or SHOP in enter("mcmt top --once")
    enter(f"mcmt trace {SHOP} --for 1s")
    assert "apnlog" in enter("mcmt log rotate apn_logger1")
    assert "proven" in enter("mcmt audit")

    # Device tokens that are gone.
    assert GONE in enter(f"mcmt tokens list {SHOP}")
    exported = enter(f"mcmt tokens export {SHOP}")
    assert GONE in exported
    assert "1 " in enter(f"mcmt tokens forget {SHOP} {GONE}")
    assert "1 tokens read" in enter("mcmt tokens import -", given=exported)

    # Other doors: devices of XMPP users, apps of pyapns, a token for the HTTP API, a user of SMTP.
    assert "node" in enter(f"mcmt registration add bob@example.com {DEVICE} --node bobs-phone")
    assert "bobs-phone" in enter("mcmt registration list")
    enter("mcmt registration remove bobs-phone")
    credentials = folder / "apple" / "credentials"
    pem = (credentials / "client.pem").read_text() + (credentials / "client.key").read_text()
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{process.doors['pyapns']}/", allow_none=True) as proxy:
        proxy.provision(APP, pem, "sandbox", 15)
    assert MADE in enter("mcmt pyapns list")
    enter(f"mcmt pyapns remove {MADE}")
    assert "mcmt_" in enter("mcmt apikey shop", config=False)
    enter("mcmt passwd anna --users-file users --stdin", given="a long password\n", config=False)

    # Shells, pages, a configuration of Momentum's.
    assert "complete" in enter("mcmt completion bash", config=False)
    enter("mcmt man man", config=False)
    assert (process.folder / "man" / "man1" / "mcmt.1").exists()
    (process.folder / "ecelerity.conf").write_text('Domain "old.example.com" {\n  Retry_Interval = 60\n}\n')
    enter("mcmt import-momentum ecelerity.conf", config=False)

    assert set(leaves()) - terminal.typed == ELSEWHERE.keys()
