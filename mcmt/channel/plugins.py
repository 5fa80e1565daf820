"""Find and load channels by folder: the folder's listing is the registry.

A channel is ``<name>.py`` or a folder ``<name>/`` with an ``__init__.py``. The first folder that has it wins; the
channels that come with mcmt are looked at last, so an operator's folder may replace one. A channel's import name,
``mcmt.channels.<name>``, is never installed anywhere.

What is loaded runs with the engine's rights: a folder of the operator's into which others may write is refused.
Every call of ``load`` runs the channel's file again; whoever calls it keeps what it returns.
"""

from __future__ import annotations

import os
import stat
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import cast

from mcmt.channel.port import Channel
from mcmt.errors import ConfigError, Fault
from mcmt.options import OptionsModel

_PACKAGE = "mcmt.channels"
_EXPORTS = ("Options", "MEDIA_TYPES", "SCHEMES", "LOGGER", "read", "check", "connect")


def builtin_folder() -> Path:
    """Where the channels that come with mcmt are: in the package once installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    return next(folder for folder in (package / "channels", package.parent / "channels") if folder.is_dir())


def available(folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """Names of the channels in *folders* and among ours, sorted. Raises ConfigError for a folder that is not safe."""
    names = set()
    for folder in _search_path(folders):
        for entry in folder.iterdir():
            is_module = entry.suffix == ".py" or (entry / "__init__.py").is_file()
            if is_module and _is_name(entry.stem):
                names.add(entry.stem)
    return tuple(sorted(names))


def load(kind: str, folders: Sequence[Path] = ()) -> Channel:
    """The channel *kind*, from the first of *folders* that has it, else from ours.

    Raises ConfigError: there is no such channel (the text lists those that there are); it is there but its import
    fails (the cause is the exception); it lacks a name of the port; or a folder or file is not safe to run.
    """
    path = _search_path(folders)
    spec = PathFinder.find_spec(f"{_PACKAGE}.{kind}", list(map(str, path))) if _is_name(kind) else None
    if spec is None or spec.loader is None or spec.origin is None:
        looked = ", ".join(map(str, path))
        there = ", ".join(available(folders))
        raise _error(looked, f"there is no channel {kind!r} here; there are: {there}")
    source = Path(spec.origin)
    if path[-1] not in source.parents:
        for run in (source, source.parent):
            _refuse_writable(run)
    # A submodule left from an earlier load would be taken for one of this channel's.
    _forget(spec.name)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # relative imports and dataclasses look it up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _forget(spec.name)
        where, what = _blame(error, source)
        raise _error(where, f"the channel {kind!r} cannot be loaded: {what}") from error
    return _checked(module, kind, source)


def _search_path(folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
            raise _error(str(folder), "this folder of channels does not exist or cannot be read")
        _refuse_writable(folder)
    return [*(folder.absolute() for folder in folders), builtin_folder()]


def _is_name(text: str) -> bool:
    return text.isidentifier() and not text.startswith("_")


def _refuse_writable(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _error(
            str(path),
            f"others than its owner may write here, and what is here runs with the engine's rights: chmod go-w {path}",
        )


def _forget(name: str) -> None:
    for loaded in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
        del sys.modules[loaded]


def _blame(error: BaseException, source: Path) -> tuple[str, str]:
    """Place and text of what went wrong: the syntax error's line, else the last line of the channel's own code."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}", f"{type(error).__name__}: {error.msg}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if source.parent in Path(frame.filename).parents
    ]
    return (f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(source)), text


def _checked(module: ModuleType, kind: str, source: Path) -> Channel:
    if lacking := [name for name in _EXPORTS if not hasattr(module, name)]:
        raise _error(
            str(source), f"the channel {kind!r} lacks {', '.join(lacking)}; mcmt/channel/port.py says what each one is"
        )
    options = module.Options
    if not (isinstance(options, type) and issubclass(options, OptionsModel)):
        raise _error(str(source), f"Options of the channel {kind!r} is not a subclass of mcmt.options.OptionsModel")
    return cast("Channel", module)


def _error(where: str, text: str) -> ConfigError:
    return ConfigError((Fault(where, "", text),))
