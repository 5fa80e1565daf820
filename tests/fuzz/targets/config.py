"""The configuration loader: ConfigError and nothing else, each fault one line with its place."""

from __future__ import annotations

import re
from pathlib import Path

from mcmt.channel import plugins
from mcmt.config.load import load
from mcmt.config.sources import Content
from mcmt.errors import ConfigError, Fault
from mcmt.eventlog.format import check_format

LONGEST = 2048

_PLACE = re.compile(r"mcmt\.yaml(:[1-9]\d*:[1-9]\d*)?")
_channels = {kind: plugins.load(kind) for kind in ("apn", "discard", "smtp")}


def run(data: bytes) -> None:
    first, second = _load(data), _load(data)
    assert first == second


def _load(data: bytes) -> tuple[Fault, ...]:
    # Files that are named are not opened: whoever writes the configuration may name any, and would name /dev/zero.
    try:
        loaded = load(
            Path("mcmt.yaml"),
            _channels,
            check_format=check_format,
            open_files=False,
            full_hostname=lambda: "host.example.com",
            processors=lambda: 2,
            content=Content({"mcmt.yaml": data}),
        )
    except ConfigError as error:
        assert error.faults
        for fault in error.faults:
            assert _PLACE.fullmatch(fault.place), fault
            assert fault.text
            assert len(str(fault).splitlines()) == 1, fault
            assert len(str(fault)) < 2 * len(data) + 2000, fault
        return error.faults
    assert loaded.settings.domains is not None
    assert loaded.settings.mainlog
    assert loaded.settings.workers >= 1
    return loaded.warnings
