"""Programs that only the benchmark needs, from Debian, npm and PyPI: fetched when missing, into .peers/ if possible."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[2] / ".peers"
NODE_APN = "8.1.0"
AIOAPNS = "4.0"

_DEBIAN = {"h2load": "nghttp2-client", "eatmydata": "eatmydata", "npm": "npm", "taskset": "util-linux"}


def debian(*programs: str) -> None:
    """Install the packages of those programs that are not there."""
    packages = [_DEBIAN[program] for program in programs if shutil.which(program) is None]
    if packages:
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True)


def _folder(name: str) -> Path:
    folder = PEERS / name
    folder.mkdir(parents=True, exist_ok=True)
    (PEERS / ".gitignore").write_text("*\n")
    return folder


def node_apn() -> Path:
    """The folder whose node_modules hold @parse/node-apn."""
    debian("npm")
    folder = _folder("node-apn")
    if not (folder / "node_modules" / "@parse" / "node-apn").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", "."]
        subprocess.run([*command, f"@parse/node-apn@{NODE_APN}"], cwd=folder, check=True)
    return folder


def _environment(name: str, *packages: str) -> Path:
    folder = PEERS / name
    python = folder / "bin" / "python"
    if not python.exists():
        _folder(name)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def aioapns() -> Path:
    """A Python that has aioapns, and uvloop to run it on."""
    return _environment("aioapns", f"aioapns=={AIOAPNS}", "uvloop")


def py_spy() -> Path:
    """The profiler."""
    beside = Path(sys.executable).with_name("py-spy")
    return beside if beside.exists() else _environment("py-spy", "py-spy>=0.4").with_name("py-spy")


def eatmydata_library() -> str:
    """The library that makes fsync do nothing."""
    debian("eatmydata")
    (found,) = Path("/usr/lib").glob("*/libeatmydata.so")
    return str(found)


def version_in(said: str) -> str:
    """The first thing in a program's answer that looks like a version."""
    match = re.search(r"\d+\.\d+[\w.]*", said)
    return match[0] if match else said.strip()


def version(*command: str) -> str:
    """What a program says its version is."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return version_in(done.stdout + done.stderr)
