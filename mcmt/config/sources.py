"""Where a configuration is read from: its files, those that it includes, and the secrets that it refers to.

What was read is remembered (Content), so that another process reads the same, whatever has become of the files since.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

_LARGEST = 16 * 1024**2
_LARGEST_SECRET = 64 * 1024
_WILD = frozenset("*?[")


class Content(msgspec.Struct, frozen=True):
    """Everything that a configuration was read from."""

    files: dict[str, bytes]
    """By name as it was given; the first one is the configuration itself."""
    matches: dict[str, tuple[str, ...]] = {}
    """The files that a pattern under ``include`` stands for."""
    variables: dict[str, str] = {}
    """Of the environment: those that are referred to."""

    def __repr__(self) -> str:  # what stands in it may be secret
        return f"Content({', '.join(self.files)})"


class Sources:
    """What a configuration is read from, as far as it asks for it."""

    def __init__(self, content: Content | None = None, environ: Mapping[str, str] | None = None) -> None:
        """*content*: as it was read before; then no file is opened. *environ*: the environment, when it is not that."""
        self._replayed = content is not None
        self.content = content or Content({})
        self._environ = os.environ if environ is None else environ

    def main(self, file: Path) -> bytes:
        """The configuration itself. Raises OSError."""
        if not self._replayed:
            self.content.files[str(file)] = file.read_bytes()
        return self.content.files[str(file)]

    def file(self, name: str) -> bytes:
        """A file that is included. Raises OSError."""
        return self._read(name, _LARGEST)

    def secret(self, name: str) -> str:
        """What stands in a file, without the end of its line. Raises OSError, or ValueError saying what is wrong."""
        text = _text(self._read(name, _LARGEST_SECRET, secret=True), name)
        return text.removesuffix("\n").removesuffix("\r")

    def variable(self, name: str) -> str:
        """A variable of the environment. Raises ValueError where there is none."""
        if not self._replayed and name in self._environ:
            self.content.variables[name] = self._environ[name]
        if name not in self.content.variables:
            raise ValueError(f"there is no {name} in the environment; set it where mcmt is started")
        return self.content.variables[name]

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The files that *pattern* stands for, sorted; one that is no pattern stands for itself."""
        if not _WILD & set(pattern):
            return (pattern,)
        if not self._replayed:
            self.content.matches[pattern] = tuple(sorted(glob.glob(pattern)))  # noqa: PTH207 - Path.glob takes no absolute pattern
        return self.content.matches.get(pattern, ())

    def _read(self, name: str, largest: int, *, secret: bool = False) -> bytes:
        if not self._replayed and name not in self.content.files:
            # O_NONBLOCK: a pipe without a writer would hold the reader up.
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(0, "it is no regular file")
                if secret and status.st_mode & 0o006:
                    raise OSError(0, "everyone on this machine may read or change it: chmod 600")
                content = file.read(largest + 1)
            if len(content) > largest:
                raise OSError(0, f"it is larger than {largest} bytes")
            self.content.files[name] = content
        try:
            return self.content.files[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None


def beside(file: str, name: str) -> str:
    """The path of *name*, which *file* names: relative to its folder. Raises ValueError."""
    try:
        return str(Path(file).parent / Path(name).expanduser())
    except RuntimeError as error:  # ~name of nobody
        raise ValueError(str(error)) from None


def _text(content: bytes, name: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{name} has a NUL in it")
    return text
