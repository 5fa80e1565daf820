"""What stands in a terminal, or in the line of a shell, when clients choose the words."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pytest

from mcmt.cli import domain, queue, status, top, working
from mcmt.cli.completing import complete_domain
from mcmt.control.protocol import DomainStatus
from mcmt.spool.port import Entry
from tests.system.commands import minimal

# What an address of RFC 6531 may have for a domain: it would turn round what follows it.
STRANGE = "\u202e.example"
SHOWN = "\\x202e.example"


def test_a_domain_moves_no_cursor_wherever_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    one = DomainStatus(domain=STRANGE, state="up")
    entry = Entry("0" * 24 + "-1", STRANGE, f"a@{STRANGE}", "t", "", 0.0, 0.0, 0.0, 0, "", 1, active=False)
    for line in (domain._row(one), queue._row(entry, time.time()), *top._rows(top._Table(top._ROW), one, top.Rate())):
        click.echo(line)
    status._write_domain(one)
    working._show(working._Count({STRANGE: [1, 1, 0]}, {}, 1, 1))
    queue._write_entry(entry, time.time())
    said = capsys.readouterr().out
    assert "\u202e" not in said
    assert said.count(SHOWN) == 7


class Engine:
    """A running one that has something to do for these."""

    def __init__(self, *domains: str) -> None:
        self.domains = domains

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to let go of."""

    def ask(self, *_: object) -> list[DomainStatus]:
        return [DomainStatus(domain=name) for name in self.domains]


def test_no_domain_is_completed_in_which_a_shell_finds_anything_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5321 4.1.3 has anything between the brackets of a literal."""
    engine = Engine("good.example.com", "[$(reboot)]", "[`reboot`]", "--all", "a b.example", STRANGE, "x;y")
    monkeypatch.setattr("mcmt.cli.common.connect", lambda *_: engine)
    config = tmp_path / "mcmt.yaml"
    expression = '"/^(a|b)[.]/": {delivery_method: discard, routes: ["discard://x"]}'
    config.write_text(minimal(2525).replace("domain: {", f"domain: {{{expression}, "))
    command = click.Command("show", params=[click.Argument(["name"])])
    context = click.Context(command)
    context.params["config"] = str(config)
    found = {item.value for item in complete_domain(context, command.params[0], "")}
    assert "good.example.com" in found
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in found), found
    assert "--all" not in found
