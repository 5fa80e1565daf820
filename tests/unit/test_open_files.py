"""The limit on open files, in a process of its own: what is lowered there stays lowered."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import mcmt

ROOT = Path(mcmt.__file__).parent.parent

SCRIPT = """
import logging, resource, sys
from pathlib import Path
from mcmt.app import load_channels, load_settings
from mcmt.app.serve import raise_open_files

logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[2])))
raise_open_files(load_settings(Path(sys.argv[1]), load_channels()).settings)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""

CONFIG = """
spool: {path: spool}
generate_bounces: false
esmtp_listener:
  max_connections: 300
  listen: {"127.0.0.1:2525": {}}
domain:
  a.example.com: {delivery_method: discard, routes: ["discard://sink"], max_outbound_connections: 20}
"""


def run(tmp_path: Path, hard: int) -> subprocess.CompletedProcess[str]:
    """What a process says and has that may open *hard* files and begins with 100."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip(f"this machine allows fewer than {hard} open files")
    config = tmp_path / "mcmt.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-c", SCRIPT, str(config), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


def test_as_many_files_may_be_open_as_the_process_is_allowed(tmp_path: Path) -> None:
    done = run(tmp_path, 1000)
    assert (done.stdout, done.stderr) == ("1000 1000\n", "")


def test_a_limit_that_is_too_low_for_the_connections_is_told_with_both_numbers(tmp_path: Path) -> None:
    done = run(tmp_path, 200)
    assert done.stdout == "200 200\n"
    assert "at most 200 files may be open" in done.stderr
    assert "can need 384" in done.stderr  # 300 clients, 20 to the gateway, 64 of its own
    assert "LimitNOFILE=" in done.stderr
