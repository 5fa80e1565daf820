"""What ``mcmt check`` says about places."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mcmt.app import load_channels, load_settings
from mcmt.cli.check import check, places
from mcmt.config.settings import Settings

CONFIG = """\
spool: {path: spool, min_free: 0}
esmtp_listener: {listen: {"127.0.0.1:0": {}}}
domain: {sink.example.com: {delivery_method: discard, routes: ["discard://sink"]}}
"""
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may look into, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def load(folder: Path, config: str = CONFIG) -> Settings:
    (folder / "mcmt.yaml").write_text(config)
    return load_settings(folder / "mcmt.yaml", load_channels()).settings


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_look_into_the_spool_is_told_so(folder: Path) -> None:
    """Who checks is often not who runs the engine."""
    settings = load(folder)
    (folder / "spool").mkdir(mode=0o700)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        found = dict(places(settings))
    finally:
        os.setresuid(0, 0, 0)
    cannot = f"{folder}/spool cannot be written; check its rights and how it is mounted"
    assert found == {
        f"{place} {folder}/{path}": cannot
        for place, path in (("spool", "spool"), ("log", "spool/mainlog.ec"), ("control socket", "spool/control.sock"))
    }


def test_as_json_it_says_what_is_wrong_and_where(folder: Path) -> None:
    (folder / "mcmt.yaml").write_text("hostname: mx.example.com\nspool: {path: spool}\nhurry: true\n")
    done = CliRunner().invoke(check, [str(folder / "mcmt.yaml"), "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["good"], told["found"]) == (2, False, [])
    (fault,) = [one for one in told["faults"] if one["option"] == "hurry"]
    assert fault["place"].endswith("mcmt.yaml:3:1")


def test_a_path_that_no_system_takes_is_no_traceback(folder: Path) -> None:
    long = "/".join(["d" * 200] * 30)
    assert dict(places(load(folder, CONFIG.replace("path: spool", f"path: {long}"))))
