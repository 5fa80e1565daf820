"""The manual pages: complete, and right for those programs that show them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mcmt.cli import main
from mcmt.cli.roff import Page
from mcmt.config.json_schema import json_schema
from tests.unit.cli.test_commands import all_commands
from tests.unit.config.support import channels


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    result = CliRunner().invoke(main, ["man", str(folder)])
    assert result.output.split() == [f"{folder}/man1/mcmt.1", f"{folder}/man5/mcmt.yaml.5"]
    return folder


def shown(page: Path) -> str:
    """As a person sees it, without what marks bold letters, and in one line."""
    text = subprocess.run(["mandoc", "-Tutf8", page], capture_output=True, text=True, check=True, timeout=60).stdout
    return " ".join(re.sub(".\b", "", text).split())


@pytest.mark.parametrize("name", ["man1/mcmt.1", "man5/mcmt.yaml.5"])
def test_neither_mandoc_nor_groff_has_a_complaint(pages: Path, name: str) -> None:
    lint = subprocess.run(["mandoc", "-Tlint", pages / name], capture_output=True, text=True, check=False, timeout=60)
    assert (lint.stdout, lint.stderr, lint.returncode) == ("", "", 0)
    command = ["man", "--warnings", "--local-file", str(pages / name)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    groff = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (groff.stderr, groff.returncode) == ("", 0)


def test_every_command_and_option_has_its_place(pages: Path) -> None:
    text = shown(pages / "man1" / "mcmt.1")
    for path in all_commands():
        command: click.Command = main
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        if isinstance(command, click.Group) or command.hidden:
            continue
        assert f"mcmt {' '.join(path)} [OPTIONS]" in text
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1] in text


def test_every_option_of_the_configuration_is_there_with_what_is_said_of_it(pages: Path) -> None:
    text = shown(pages / "man5" / "mcmt.yaml.5")
    schema = json_schema(channels())
    places = [schema["$defs"]["domain"], schema["properties"]["esmtp_listener"], schema["properties"]["spool"]]
    options = {name: option for place in places for name, option in place["properties"].items()}
    for name, option in options.items():
        assert re.search(rf"\b{name}\b", text), name
        if told := option.get("description"):
            assert " ".join(told.split()) in text, name


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_no_text_becomes_a_macro(texts: list[str]) -> None:
    page = Page("x", 1, "2026-11-22", "0", "y")
    for text in texts:
        page.paragraphs(text)
        page.item(text, text)
    lines = page.text().splitlines()[3:]
    assert all(line.isascii() for line in lines)
    assert {line.split()[0] for line in lines if line[:1] in (".", "'")} <= {".PP", ".TP", ".nf", ".fi"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "man1").write_text("")
    result = CliRunner().invoke(main, ["man", str(tmp_path)])
    assert result.exit_code == 1
    assert str(tmp_path / "man1") in result.output
