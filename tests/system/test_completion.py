"""Completion in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.commands import minimal

SCRIPTS: dict[str, tuple[list[str], str, str]] = {
    "bash": (
        ["bash", "--norc"],
        "COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _mcmt_completion mcmt; "
        'printf "%s\\n" "${{COMPREPLY[@]}}"',
        "",
    ),
    # The functions of zsh's completion system are there only while a person types; these say what they are told.
    "zsh": (
        ["zsh", "-f"],
        "words=({words}); CURRENT=${{#words}}; _mcmt_completion",
        "compdef() {{ }}; _describe() {{ print -l -- ${{(P)3}} }}; compadd() {{ print -l -- ${{(P)5}} }}; ",
    ),
    "fish": (["fish", "--no-config"], "complete -C '{line}'", ""),
}
"""Of each shell: how it is started, what completes a line, and what has to be there before."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a configuration, and a mcmt of this checkout in the path."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "config").mkdir()
    (folder / "config" / "mcmt.yaml").write_text(minimal(2525))
    command = folder / "mcmt"
    command.write_text(f"#!{sys.executable}\nfrom mcmt.cli import main\n\nmain()\n")
    command.chmod(0o755)
    return folder


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SCRIPTS)
def test_commands_options_and_domains_are_completed_in(folder: Path, shell: str) -> None:
    assert shutil.which(shell), f"{shell} is needed: tests/peers.sh"
    script = folder / f"completion.{shell}"
    script.write_text(run(folder, "mcmt", "completion", shell))
    run(folder, shell, "-n", str(script))
    start, complete, before = SCRIPTS[shell]

    def completed(line: str) -> str:
        words = line if not line.endswith(" ") else f"{line}''"
        asked = complete.format(words=words, line=line)
        return run(folder, *start, "-c", f"{before.format()}source {script}; {asked}")

    assert "suspend" in completed("mcmt domain sus")
    assert "--trust" in completed("mcmt domain resume --")
    assert "sink.example.com" in completed("mcmt domain show si")
    assert "sink.example.com" in completed("mcmt trace ")
