"""The command line itself: what is there, what it costs, what it says when used wrongly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import mcmt
from mcmt.cli import main, sample
from mcmt.cli.common import address, printable, routed, span
from mcmt.message.mime import parse
from mcmt.message.model import header

ROOT = Path(mcmt.__file__).parent.parent


def all_commands() -> list[tuple[str, ...]]:
    def below(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = [path]
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                member = command.get_command(context, name)
                assert member is not None
                found += below(member, (*path, name))
        return found

    return below(main, ())


def test_every_command_of_the_manual_is_there() -> None:
    names = {path[0] for path in all_commands() if path}
    assert names >= {"serve", "check", "send", "simulate", "demo", "status", "queue"}


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    assert command.help
    if path[:1] != ("simulate",):
        assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_an_unknown_command_is_a_wrong_command_line() -> None:
    assert CliRunner().invoke(main, ["frobnicate"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to send"),
        (("--alert", "x"), "no device"),
        (("--alert", "x", "--payload", "-", "--token", "ab"), "--payload is the whole JSON"),
        (("--alert", "x", "--token", "ab", "--header", "nonsense"), "expected a header field"),
        (("--alert", "x", "--token", "ab", "--smtp", "2525"), "expected an address and a port"),
        (("--alert", "x", "--token", "ab", "--wait", "-1"), "-1"),
        (("--badge", "many", "--token", "ab"), "many"),
    ],
)
def test_send_says_what_is_wrong_with_the_command_line(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["send", *arguments])
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_the_version_costs_none_of_what_the_engine_needs() -> None:
    """What makes a start slow is what is imported."""
    code = (
        "import sys\nfrom mcmt.cli import main\n"
        "try: main(['--version'], prog_name='mcmt')\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    version, modules = done.stdout.splitlines()
    assert version == f"mcmt, version {mcmt.__version__}"
    heavy = {"asyncio", "apsw", "aiosmtpd", "cryptography", "h2", "msgspec", "pydantic", "ssl", "uvloop", "yaml"}
    assert not heavy & set(modules.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-3, "0s"), (0.4, "0s"), (59.6, "1m"), (75, "1m 15s"), (3600, "1h"), (86400 * 3 + 60, "3d")],
)
def test_a_duration_is_shown_by_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_nothing_shown_moves_the_cursor() -> None:
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\\x0a"


def test_an_ipv6_address_has_brackets() -> None:
    assert (address("::1", 25), address("127.0.0.1", 25)) == ("[::1]:25", "127.0.0.1:25")


def test_the_readme_shows_the_sample_that_the_demo_sends() -> None:
    assert f"\n{sample.MESSAGE}```\n" in (ROOT / "README.md").read_text("utf-8")


def test_the_sample_is_what_the_constants_beside_it_say() -> None:
    (mail, push) = parse(sample.MESSAGE.replace("\n", "\r\n").encode()).parts
    assert mail.media_type == "message/rfc822"
    assert header(push.headers, "x-device-token") == sample.TOKEN
    assert f"To: {sample.RECIPIENT}\n" in sample.MESSAGE
    assert sample.RECIPIENT.endswith(f"@{sample.DOMAIN}")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("APN.Example.com", "apn.example.com"),
        ("apn.example.com.", "apn.example.com"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("[127.0.0.1]", "[127.0.0.1]"),
    ],
)
def test_a_domain_is_meant_however_it_is_written(written: str, name: str) -> None:
    """With a stanza "*" every name is one: what was written otherwise would be suspended beside the real one."""
    assert routed(written) == name


@pytest.mark.parametrize(
    "command", [("domain", "suspend"), ("domain", "resume"), ("queue", "retry"), ("queue", "list")]
)
@pytest.mark.parametrize("written", ["", ".", "a b", "push@apn.example.com"])
def test_what_is_no_domain_is_a_wrong_command_line(command: tuple[str, str], written: str, tmp_path: Path) -> None:
    config = tmp_path / "mcmt.yaml"
    config.write_text(
        'spool: {path: spool}\nesmtp_listener: {listen: {"127.0.0.1:0": {}}}\n'
        'domain: {sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}}\n'
    )
    result = CliRunner().invoke(main, [*command, written, "--config", str(config)])
    assert result.exit_code == 2
    assert "expected a domain such as apn.example.com" in result.output
