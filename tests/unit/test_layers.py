"""Who may import whom: each layer only what stands before it, and stations of one layer never each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS: list[set[str]] = [
    {"errors", "clock", "options", "systemd"},
    {"client"},
    {"wire"},
    {"message"},
    {"config", "spool", "eventlog", "channel", "simulator"},
    {"intake", "engine", "webhooks", "telemetry"},
    {"control"},
    {"workers", "monitor"},
    {"app"},
    {"cli"},
]
"""From the ground up; a name is a module or a package of mcmt."""

PORTS = {
    ("intake", "mcmt.spool.port"),
    ("intake", "mcmt.spool.standing"),
    ("intake", "mcmt.spool.registration"),
    ("intake", "mcmt.channel.port"),
    ("engine", "mcmt.spool.port"),
    ("engine", "mcmt.channel.port"),
    ("control", "mcmt.spool.port"),
    ("control", "mcmt.spool.registration"),
}
"""Of these stations the layers above know the port, never what stands behind it."""

# The settings are values: every station takes its own stanza, none takes the loader.
VALUES = {"mcmt.config.settings", "mcmt.config.xmpp_settings", "mcmt.config.made_settings"}

CHANNEL_MAY_IMPORT = {"message", "wire", "channel", "errors", "clock", "options"}

MODULES = sorted((ROOT / "mcmt").rglob("*.py"))
CHANNELS = sorted((ROOT / "channels").rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Every module of ours that *file* imports, wherever the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ("mcmt", "channels"))
        elif isinstance(node, ast.ImportFrom):
            assert not (node.level and file.is_relative_to(ROOT / "mcmt")), f"{file}: relative import"
            module = node.module or ""
            if module == "mcmt":
                yield from (f"mcmt.{alias.name}" for alias in node.names)
            elif not node.level and module.split(".")[0] in ("mcmt", "channels"):
                yield module


def station(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def layer_of(name: str) -> int:
    (index,) = [index for index, layer in enumerate(LAYERS) if name in layer]
    return index


def test_every_part_has_its_place() -> None:
    parts = {
        path.stem for path in (ROOT / "mcmt").iterdir() if not path.name.startswith("_") and path.suffix != ".typed"
    }
    assert parts == set.union(*LAYERS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_before_it(file: Path) -> None:
    here = file.relative_to(ROOT / "mcmt").parts[0].removesuffix(".py")
    for module in imports(file):
        assert module.split(".")[0] != "channels", f"{module}: the core never imports a channel"
        there = station(module)
        if here.startswith("__") or there.startswith("__") or here == there or module in VALUES:
            continue
        assert layer_of(there) < layer_of(here), f"{here} must not import {module}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_intake_engine_and_control_know_only_the_ports_of_spool_and_channel(file: Path) -> None:
    here = file.relative_to(ROOT / "mcmt").parts[0]
    if here not in ("intake", "engine", "control"):
        return
    for module in imports(file):
        if station(module) in ("spool", "channel"):
            assert (here, module) in PORTS, f"{here} must not import {module}"


@pytest.mark.parametrize("file", CHANNELS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_channel_imports_the_ports_values_and_wire_and_no_other_channel(file: Path) -> None:
    for module in imports(file):
        assert module.split(".")[0] == "mcmt", f"{module}: channels never import each other"
        assert station(module) in CHANNEL_MAY_IMPORT, f"a channel must not import {module}"
