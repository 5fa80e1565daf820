"""Channels are found by folder, loaded by path, and refused when others could have written them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mcmt.channel.plugins import available, builtin_folder, load
from mcmt.errors import ConfigError
from mcmt.message.status import Outcome

CHANNEL = '''
"""A channel of an operator's own."""
from __future__ import annotations
from dataclasses import dataclass
from mcmt.message.status import Outcome
from mcmt.options import OptionsModel

MEDIA_TYPES = frozenset()
SCHEMES = frozenset({"own"})
LOGGER = None
NAME = "%s"

@dataclass
class Note:
    outcome: Outcome

class Options(OptionsModel):
    own_option: int = 5

def read(part, recipient, context, options): ...
def check(options, routes): return ()
async def connect(route, options, report, clock, state): ...
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
    return file


def test_ours_are_there_without_any_folder() -> None:
    assert {"apn", "discard"} <= set(available())
    assert "discard" in load("discard").SCHEMES


def test_a_file_or_a_package_in_a_folder_is_a_channel(folder: Path) -> None:
    write(folder / "own.py", CHANNEL % "file")
    write(folder / "whole" / "__init__.py", "from .parts import *\nfrom .parts import NAME\n")
    write(folder / "whole" / "parts.py", CHANNEL % "package")
    write(folder / "_helper.py", "")
    write(folder / "notes.txt", "")
    (folder / "empty").mkdir()

    assert set(available([folder])) - set(available()) == {"own", "whole"}
    assert load("own", [folder]).NAME == "file"  # type: ignore[attr-defined]
    assert load("whole", [folder]).NAME == "package"  # type: ignore[attr-defined]


def test_the_first_folder_that_has_it_wins_and_ours_come_last(tmp_path: Path) -> None:
    write(tmp_path / "one" / "discard.py", CHANNEL % "one")
    write(tmp_path / "two" / "discard.py", CHANNEL % "two")
    folders = [tmp_path / "one", tmp_path / "two"]

    assert load("discard", folders).NAME == "one"  # type: ignore[attr-defined]
    assert load("discard", folders[::-1]).NAME == "two"  # type: ignore[attr-defined]
    assert "discard" in load("discard").SCHEMES


def test_a_channel_may_have_the_name_of_a_standard_module(folder: Path) -> None:
    write(folder / "email.py", CHANNEL % "not the standard library's")
    load("email", [folder])
    import email

    assert hasattr(email, "message_from_bytes")


def test_two_packages_of_one_name_do_not_mix_their_submodules(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "dummy", "")
        write(tmp_path / name / "pack" / "__init__.py", "from .parts import *\nfrom .parts import NAME\n")
        write(tmp_path / name / "pack" / "parts.py", CHANNEL % name)

    assert load("pack", [tmp_path / "one"]).NAME == "one"  # type: ignore[attr-defined]
    assert load("pack", [tmp_path / "two"]).NAME == "two"  # type: ignore[attr-defined]


def test_shared_types_are_the_cores_own(folder: Path) -> None:
    write(folder / "own.py", CHANNEL % "own")
    assert load("own", [folder]).Outcome is Outcome  # type: ignore[attr-defined]


def test_a_missing_channel_lists_what_there_is_and_where_it_was_looked_for(folder: Path) -> None:
    write(folder / "own.py", CHANNEL % "own")
    with pytest.raises(ConfigError) as caught:
        load("fax", [folder])
    assert re.search(r"there is no channel 'fax' here; there are: apn, discard.*, own", str(caught.value))
    assert str(folder) in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["../own", "own.py", "a.own", "", "_helper", "own/../own", "__init__"])
def test_a_name_is_no_path(folder: Path, kind: str) -> None:
    write(folder / "own.py", CHANNEL % "own")
    write(folder / "_helper.py", CHANNEL % "helper")
    with pytest.raises(ConfigError, match="there is no channel"):
        load(kind, [folder])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("import no_such_module\n", 1, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("x = 1\ndef broken(:\n", 2, "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
    ],
)
def test_a_channel_that_is_there_and_fails_says_so_with_its_line(folder: Path, text: str, line: int, what: str) -> None:
    file = write(folder / "own.py", text)
    with pytest.raises(ConfigError) as caught:
        load("own", [folder])
    assert str(caught.value) == f"{file}:{line}: the channel 'own' cannot be loaded: {what}"
    assert caught.value.__cause__ is not None
    assert "mcmt.channels.own" not in sys.modules


def test_the_line_is_that_of_the_package_not_of_what_it_imports(folder: Path) -> None:
    write(folder / "own" / "__init__.py", "from . import parts\n")
    file = write(folder / "own" / "parts.py", "import json\n\njson.loads('{')\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}:3: the channel 'own' cannot be loaded: JSONDecodeError")):
        load("own", [folder])


def test_a_channel_that_lacks_a_name_of_the_port_says_which(folder: Path) -> None:
    write(folder / "own.py", (CHANNEL % "own").replace("def check", "def chek").replace("SCHEMES", "SCHEMAS"))
    with pytest.raises(ConfigError, match=r"own\.py: the channel 'own' lacks SCHEMES, check; "):
        load("own", [folder])


def test_options_must_be_an_options_model(folder: Path) -> None:
    write(folder / "own.py", (CHANNEL % "own").replace("Options(OptionsModel)", "Options"))
    with pytest.raises(ConfigError, match=r"not a subclass of mcmt\.options\.OptionsModel"):
        load("own", [folder])


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_into_which_others_may_write_is_refused(folder: Path, mode: int) -> None:
    write(folder / "own.py", CHANNEL % "own")
    folder.chmod(mode)
    with pytest.raises(ConfigError, match="others than its owner may write here"):
        load("own", [folder])
    with pytest.raises(ConfigError, match=re.escape(f"chmod go-w {folder}")):
        available([folder])


def test_a_file_that_others_may_write_is_refused_before_it_runs(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    file = write(folder / "own.py", f"open({str(trace)!r}, 'w')\n")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=re.escape(f"chmod go-w {file}")):
        load("own", [folder])
    assert not trace.exists()


def test_a_package_whose_folder_others_may_write_is_refused(folder: Path) -> None:
    write(folder / "own" / "__init__.py", CHANNEL % "own")
    (folder / "own").chmod(0o775)
    with pytest.raises(ConfigError, match="others than its owner may write here"):
        load("own", [folder])


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        available([tmp_path / "missing"])


def test_ours_load_from_a_checkout_whatever_its_umask_was() -> None:
    assert builtin_folder().name == "channels"
    load("apn")
