"""Types of option values that the core and every channel share: durations, sizes, paths, words.

Each is an annotated pydantic type. A duration is a number in the option's own unit or has a suffix
(``ms s m h d``); a size is bytes or has ``KB MB GB`` (1024); a path is relative to the folder of the
configuration file, given in the validation context as ``base``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_LONGEST = 36525 * 86400.0
_LONGEST_NAME = 255  # NAME_MAX, limits.h(0p)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB)?")


class OptionsModel(BaseModel):
    """Base of every stanza: unknown keys are faults, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    IGNORED: ClassVar[Mapping[str, str]] = {}
    """Options of older configurations that are accepted and do nothing, each with the reason: a warning."""
    NOT_AVAILABLE: ClassVar[frozenset[str]] = frozenset()
    """Options that a later version has: a fault that says so."""
    SECRETS: ClassVar[frozenset[str]] = frozenset()
    """Options whose value is not shown, whatever is wrong with it."""
    OWN_NAME: ClassVar[str] = ""
    """Of a channel: the option that is our own name towards the peer; not given, it is the file's ``hostname``."""
    RETIRED_HOSTS: ClassVar[Mapping[str, str]] = {}
    """Of a channel: hosts that are no more, each with the ``host:port`` that its routes go to instead: a warning."""


def parse_duration(value: object, unit: str) -> float:
    """Seconds meant by *value*: a number counts in *unit* (``s`` or ``ms``), a string may carry a suffix.

    Raises ValueError for anything else, and for a negative or endless duration.
    """
    if isinstance(value, bool):
        raise ValueError("expected a duration such as 30, 30s or 500ms")
    if isinstance(value, int | float):
        if not 0 <= value <= _LONGEST / _SECONDS[unit]:
            raise ValueError("a duration cannot be negative or longer than 100 years")
        return value * _SECONDS[unit]
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        seconds = float(match[1]) * _SECONDS[match[2] or unit]
        if seconds > _LONGEST:
            raise ValueError("a duration cannot be longer than 100 years")
        return seconds
    raise ValueError(f"expected a duration such as 30, 30s or 500ms (a bare number counts in {unit})")


def parse_size(value: object) -> int:
    """Bytes meant by *value*: a whole number, or a string with B, KB, MB or GB (1024). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip().upper())):
        return int(match[1]) * _BYTES[match[2] or ""]
    raise ValueError("expected a size such as 4096, 64KB, 10MB or 1GB")


_SECRET = re.compile(r"-----BEGIN|\bM[A-Za-z0-9+/=]{99}|scrypt\$|//[^/\s]*@|:[^/\s]+@|[?&]\w*(?:pass|secret|token)")
"""PEM, the base64 of a key (DER begins with a SEQUENCE, hence M), a users file's entry, a URL with a password."""


def holds_secret(text: str) -> bool:
    """Whether *text*, given where something else is expected, may be a key or a password: nobody is shown it then."""
    return _SECRET.search(text) is not None


def _resolve(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("expected a path")
    if holds_secret(str(value)):
        raise ValueError("expected the path of a file; put this into a file of mode 600, and name that")
    # What no file system takes, so that later code has to expect OSError alone.
    if "\0" in str(value) or any(len(os.fsencode(name)) > _LONGEST_NAME for name in Path(value).parts):
        raise ValueError(f"expected a path: no name in it has a NUL or more than {_LONGEST_NAME} bytes")
    base = (info.context or {}).get("base")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise ValueError(f"expected a path: {error}") from None
    return path if base is None else Path(base) / path


def _as_word(value: object) -> object:
    # YAML 1.1 reads no, off, yes and on as booleans; where a word is wanted the word was meant.
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def also_text(schema: dict[str, Any], pattern: str) -> WithJsonSchema:
    """For editors: what *schema* says, or text that *pattern* matches."""
    return WithJsonSchema({"anyOf": [schema, {"type": "string", "pattern": f"^(?:{pattern})$"}]})


_DURATION_TEXT = also_text({"type": "number", "minimum": 0}, _DURATION.pattern)

Seconds = Annotated[float, BeforeValidator(lambda value: parse_duration(value, "s")), _DURATION_TEXT]
"""A duration held in seconds; a bare number in the file counts seconds."""
Milliseconds = Annotated[float, BeforeValidator(lambda value: parse_duration(value, "ms")), _DURATION_TEXT]
"""A duration held in seconds; a bare number in the file counts milliseconds."""
Size = Annotated[
    int, BeforeValidator(parse_size), also_text({"type": "integer", "minimum": 0}, r"\d+\s*([Bb]|[KkMmGg][Bb])?")
]
"""Bytes."""
FilePath = Annotated[Path, BeforeValidator(_resolve)]
"""A path, made absolute against the configuration file's folder."""
WORD = BeforeValidator(_as_word)
"""Put before a Literal whose words YAML may have read as booleans."""
