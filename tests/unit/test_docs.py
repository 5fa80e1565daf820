"""The documents against what is there: tests, commands, options, links, and whose machine they were written on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mcmt.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in DOCUMENTS}

TEST_NAME = re.compile(r"`((?:unit|system|bench|crash|faults|fuzz|hostile)/[\w/]+\.py)::(\w+)(?:::(\w+))?`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""

    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield name, command
            return
        context = click.Context(command)
        for member in command.list_commands(context):
            found = command.get_command(context, member)
            assert found is not None
            yield from below(f"{name} {member}", found)

    return below("mcmt", main)


def names_of(file: Path) -> set[tuple[str, ...]]:
    """The test functions, and the classes with their methods, that a file defines or holds by assignment."""
    found: set[tuple[str, ...]] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add((node.name,))
        elif isinstance(node, ast.ClassDef):
            found.add((node.name,))
            found.update((node.name, each.name) for each in node.body if isinstance(each, ast.FunctionDef))
        elif isinstance(node, ast.Assign):
            found.update((target.id,) for target in node.targets if isinstance(target, ast.Name))
    return found


def anchors(text: str) -> set[str]:
    """Fragments of a document's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


def test_every_test_that_keeps_a_promise_exists() -> None:
    """A promise whose test was renamed or taken out is a promise that nobody keeps."""
    missing = []
    for file, *parts in TEST_NAME.findall(TEXTS["docs/promises.md"] + TEXTS["SECURITY.md"]):
        path = ROOT / "tests" / file
        if not path.exists() or tuple(filter(None, parts)) not in names_of(path):
            missing.append("::".join([file, *filter(None, parts)]))
    assert missing == []


@pytest.mark.parametrize(("document", "least"), [("docs/promises.md", 100), ("SECURITY.md", 15)])
def test_every_promise_has_a_test(document: str, least: int) -> None:
    rows = [line for line in TEXTS[document].splitlines() if line.startswith("|")]
    promises = [row for row in rows if row not in ("| promise | test |", "|---|---|")]
    assert len(promises) > least
    assert [row for row in promises if not TEST_NAME.search(row.rpartition(" | ")[2])] == []


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_every_option_is_in_the_documents(name: str, command: click.Command) -> None:
    if command.hidden:
        return  # for other processes of ours, not for people
    everything = "\n".join(TEXTS.values())
    assert re.search(rf"\b{name}\b", everything), name
    for option in command.params:
        if isinstance(option, click.Option):
            assert any(f"`{written}" in everything for written in option.opts), f"{name}: {option.opts}"


def test_every_command_is_shown_with_what_it_prints() -> None:
    """`$ mcmt ...`, and a line of output below."""
    shown = re.findall(r"^\$ (mcmt .*)\n(?!\$ |```)", TEXTS["docs/operations.md"], re.MULTILINE)
    names = [name for name, command in commands() if not command.hidden]
    assert [name for name in names if not any(f"{line} ".startswith(f"{name} ") for line in shown)] == []


@pytest.mark.parametrize("document", list(TEXTS))
def test_links_lead_somewhere(document: str) -> None:
    for link in LINK.findall(TEXTS[document]):
        if "://" in link:
            continue
        target, _, fragment = link.partition("#")
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), link
        if fragment:
            assert fragment in anchors(path.read_text("utf-8")), link


@pytest.mark.parametrize("document", list(TEXTS))
def test_every_file_of_the_code_that_is_named_exists(document: str) -> None:
    named = re.findall(r"`((?:mcmt|channels|config|tests)/[\w/.]+\.\w+)`", TEXTS[document])
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", list(TEXTS))
def test_no_document_names_a_path_of_the_machine_that_it_was_written_on(document: str) -> None:
    found = re.findall(r"(?:/work/|/home/|/root\b|/Users/|/tmp/pytest|/tmp/tmp)\S*", TEXTS[document])
    assert found == []


@pytest.mark.parametrize("document", list(TEXTS))
def test_what_is_written_as_yaml_is_yaml(document: str) -> None:
    import yaml

    for block in re.findall(r"```yaml\n(.*?)```", TEXTS[document], re.DOTALL):
        assert yaml.safe_load(block)


def test_the_unit_file_waits_longer_than_the_engine_drains() -> None:
    """systemd would kill an engine that is still waiting for answers."""
    from mcmt.config.settings import Settings

    unit = dict(
        line.split("=", 1)
        for line in (ROOT / "docs" / "mcmt.service").read_text("utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    )
    (drain,) = (default for name, default in defaults(Settings) if name == "drain_timeout")
    assert float(unit["TimeoutStopSec"]) > drain
    assert unit["Type"] == "notify"
    assert unit["User"] != "root"


def defaults(struct: type) -> Iterator[tuple[str, float]]:
    import msgspec

    for field in msgspec.structs.fields(struct):
        if isinstance(field.default, int | float):
            yield field.name, field.default
