"""Every option that holds for a domain, with the line that it comes from."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from mcmt.cli import main
from mcmt.config.explain import Explained, Explanation, explain
from tests.unit.config.support import LISTENER, SPOOL, Configuration

TEXT = f"""\
{SPOOL}{LISTENER}hostname: mx.example.com
retry_interval: 10
domain_group:
  apps:
    members: [a.example.com]
    delivery_method: apn
    routes: ["apn://api.push.apple.com:2197"]
    idle_timeout: 2m
    retry_interval: 20
    apn_key_id: !env MCMT_TEST_KEY
domain:
  a.example.com:
    idle_timeout: null
    apn_topic: com.example.a
  "/^x/":
    delivery_method: smtp
    routes: ["smtp://127.0.0.1:25"]
  "*": {{delivery_method: discard, routes: ["discard://sink"]}}
"""


def explained(configuration: Configuration, domain: str) -> Explanation:
    found = explain(configuration.load(TEXT, open_files=False), domain)
    assert found is not None
    return found


def option(configuration: Configuration, domain: str, name: str) -> Explained:
    (found,) = [each for each in explained(configuration, domain).options if each.option == name]
    return msgspec.structs.replace(found, place=found.place and found.place.replace(f"{configuration.folder}/", ""))


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        ("a.example.com", Explained("retry_interval", 20, "group apps", "mcmt.yaml:11:5")),
        ("a.example.com", Explained("routes", ["apn://api.push.apple.com:2197"], "group apps", "mcmt.yaml:9:5")),
        ("a.example.com", Explained("idle_timeout", 300, "default", None)),
        ("a.example.com", Explained("apn_topic", "com.example.a", "domain", "mcmt.yaml:16:5")),
        ("a.example.com", Explained("tls_verify", "host", "default", None)),
        ("xy.example.com", Explained("retry_interval", 10, "global", "mcmt.yaml:4:1")),
        ("xy.example.com", Explained("routes", ["smtp://127.0.0.1:25"], "expression /^x/", "mcmt.yaml:19:5")),
        ("xy.example.com", Explained("helo_name", "mx.example.com", "global", "mcmt.yaml:3:1")),
        ("other.net", Explained("delivery_method", "discard", "every other domain", "mcmt.yaml:20:9")),
    ],
)
def test_each_value_is_told_with_the_line_that_it_comes_from(
    configuration: Configuration, domain: str, told: Explained
) -> None:
    assert option(configuration, domain, told.option) == told


def test_the_stanza_that_serves_the_domain_is_told(configuration: Configuration) -> None:
    stanzas = {domain: explained(configuration, domain).stanza for domain in ("a.example.com", "xy", "other.net")}
    assert stanzas == {"a.example.com": "a.example.com", "xy": "/^x/", "other.net": "*"}


def test_of_what_stands_elsewhere_the_reference_is_told(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCMT_TEST_KEY", "ABCDE12345")
    told = option(configuration, "a.example.com", "apn_key_id")
    assert told == Explained("apn_key_id", "!env MCMT_TEST_KEY", "group apps", "mcmt.yaml:12:5")
    assert "ABCDE12345" not in repr(explained(configuration, "a.example.com"))


def test_the_command_writes_lines_for_people_and_json_for_scripts(configuration: Configuration) -> None:
    configuration.file.write_text(TEXT)
    arguments = ["config", "explain", "A.example.com", "--config", str(configuration.file)]
    lines = CliRunner().invoke(main, arguments).output.splitlines()
    assert lines[0] == "a.example.com is served by the stanza a.example.com"
    (line,) = [line for line in lines if line.startswith("retry_interval")]
    assert line.split() == ["retry_interval", "20", "group", "apps", f"{configuration.file}:11:5"]
    told = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert {"option": "idle_timeout", "value": 300, "scope": "default", "place": None} in told["options"]


def test_a_domain_that_no_stanza_serves_ends_with_1(configuration: Configuration) -> None:
    configuration.file.write_text(TEXT.replace('"*"', "only.example.com"))
    done = CliRunner().invoke(main, ["config", "explain", "b.net", "--config", str(configuration.file)])
    assert done.exit_code == 1
    assert "550 5.1.2" in done.output


def test_the_schema_is_written_as_json() -> None:
    schema = json.loads(CliRunner().invoke(main, ["config", "schema"]).output)
    assert schema["$schema"].endswith("2020-12/schema")
