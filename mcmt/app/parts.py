"""What is loaded before anything is opened: the channels, and the settings that they help to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mcmt.channel.plugins import available, load
from mcmt.channel.port import Channel
from mcmt.config.load import Loaded
from mcmt.config.load import load as load_config
from mcmt.config.sources import Content
from mcmt.eventlog.format import check_format
from mcmt.intake.check import check_gateway, check_http, check_listen


def load_channels(folders: Sequence[Path] = ()) -> Mapping[str, Channel]:
    """Every channel there is, by name."""
    return {name: load(name, folders) for name in available(folders)}


def load_settings(
    file: Path, channels: Mapping[str, Channel], content: Content | None = None, *, open_files: bool = True
) -> Loaded:
    """The settings in *file*, or in the *content* that was read before. Raises ConfigError with every fault.

    Without *open_files* nobody looks into certificates and keys, which may have gone since.
    """
    return load_config(
        file,
        channels,
        check_format=check_format,
        check_listen=check_listen,
        check_gateway=check_gateway,
        check_http=check_http,
        open_files=open_files,
        content=content,
    )
