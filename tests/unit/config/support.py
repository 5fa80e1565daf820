"""A configuration written into a folder and loaded, with the channels that come with mcmt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from mcmt.channel import plugins
from mcmt.channel.port import Channel
from mcmt.config.listeners import CheckListen
from mcmt.config.load import Loaded, load
from mcmt.config.sources import Content
from mcmt.errors import ConfigError

SPOOL = "spool: {path: spool}\n"
LISTENER = 'esmtp_listener: {listen: {"127.0.0.1:2525": {mcmt_reception: allow}}}\n'
DOMAIN = 'domain: {d.example.com: {delivery_method: discard, routes: ["discard://sink"]}}\n'


@cache
def channels() -> dict[str, Channel]:
    return {kind: plugins.load(kind) for kind in ("apn", "discard", "smtp")}


class Configuration:
    """One file that tests write and read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "mcmt.yaml"
        self.channels = channels()

    def load(
        self,
        text: str,
        check_format: Callable[[str], None] | None = None,
        open_files: bool = True,
        check_listen: CheckListen | None = None,
        content: Content | None = None,
    ) -> Loaded:
        self.file.write_text(text)
        return load(
            self.file,
            self.channels,
            check_format=check_format,
            check_listen=check_listen,
            open_files=open_files,
            full_hostname=lambda: "host.example.com",
            content=content,
        )

    def faults(
        self,
        text: str,
        check_format: Callable[[str], None] | None = None,
        check_listen: CheckListen | None = None,
    ) -> list[str]:
        """The faults, one a line, without the folder's name."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, check_format, check_listen=check_listen)
        return [line.replace(f"{self.folder}/", "") for line in str(caught.value).splitlines()]

    def fault(self, text: str) -> str:
        """The only fault."""
        (fault,) = self.faults(text)
        return fault

    def warnings(self, text: str) -> list[str]:
        return [str(warning).replace(f"{self.folder}/", "") for warning in self.load(text).warnings]
