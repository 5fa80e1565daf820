"""What is installed is what is in the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mcmt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: a build leaves a folder behind that the next one would take for source.
    for name in ("mcmt", "channels", "config"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    command.append(str(folder / "source"))
    subprocess.run(command, check=True, timeout=100)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_core_and_every_channel(wheel: zipfile.ZipFile) -> None:
    core = {str(file.relative_to(ROOT)) for file in (ROOT / "mcmt").rglob("*.py")} | {"mcmt/py.typed"}
    channels = {f"mcmt/{file.relative_to(ROOT)}" for file in (ROOT / "channels").rglob("*.py")}
    shipped = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert shipped == core | channels | {"mcmt/sample/mcmt.yaml"}


def test_the_packages_named_are_the_packages_there_are() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    core = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "mcmt").rglob("__init__.py")}
    channels = {"mcmt." + ".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "channels").rglob("__init__.py")}
    assert sorted(named) == sorted(core | channels | {"mcmt.sample"})


def test_the_installed_version_is_the_packages_own() -> None:
    from importlib.metadata import version

    assert version("mcmt") == mcmt.__version__


def test_nothing_called_channels_is_installed_at_the_top(wheel: zipfile.ZipFile) -> None:
    """It would overwrite Django Channels in a shared environment."""
    assert not [name for name in wheel.namelist() if name.startswith("channels")]


def test_the_lock_has_every_dependency_with_a_version_that_will_do_and_its_hashes() -> None:
    """What pyproject.toml asks for after the lock was made: make lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    for dependency in map(Requirement, project["dependencies"]):
        assert dependency.specifier.contains(pinned[dependency.name.lower()]), dependency
    entries = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pinned)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in lock, "the lock names an index of this machine"


def test_no_file_is_too_long_to_read() -> None:
    files = [*(ROOT / "mcmt").rglob("*.py"), *(ROOT / "channels").rglob("*.py")]
    assert [str(file) for file in files if len(file.read_text().splitlines()) > 400] == []
