"""The domains that were made, as commands tell them without an engine."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from mcmt.cli import main
from tests.unit.config.support import Configuration
from tests.unit.config.test_made_domains import MADE, NAME, keep, text


def command(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--config", str(folder / "mcmt.yaml")])
    assert done.exit_code == 0, done.output
    return done.output


def test_they_are_listed_and_counted_and_a_made_name_is_explained(tmp_path: Path) -> None:
    configuration = Configuration(tmp_path)
    configuration.file.write_text(text())
    assert command(tmp_path, "pyapns", "list") == ""
    keep(configuration).parent.chmod(0o700)
    heading, row = command(tmp_path, "pyapns", "list").splitlines()
    assert heading.split() == ["DOMAIN", "ENVIRONMENT", "TOPIC", "EXPIRES", "APP"]
    assert row.split() == [NAME, "sandbox", "com.example.app", "2033-05-18", "myapp"]
    listed = json.loads(command(tmp_path, "pyapns", "list", "--json"))
    assert listed == {
        "domain": NAME,
        "app_id": "myapp",
        "environment": "sandbox",
        "topic": "com.example.app",
        "expires": 2e9,
    }
    assert f"{MADE.record}:1:1" in command(tmp_path, "config", "explain", NAME)
    (tmp_path / "mcmt.yaml").write_text(text() + "ec_logger: {ec_logger1: {mainlog: main.ec}}\n")
    assert "to domains made below apps.example.com (1 of 100)" in command(tmp_path, "check")
