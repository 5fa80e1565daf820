"""A domain made for an app, or let go of, while the engine runs: its files, and the configuration with and without it.

Of each domain there are two files below the spool, both 0600: its record, which the loader reads as if it were included
(mcmt/config/made_domains.py), and certificate with key, named by their digest so that neither is ever written over. The
record comes to its name in one step, when the other file is on disk.

Rules: blocking, but for what is said; one at a time. What fails is taken back to the last file.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcmt.channel.port import Channel
from mcmt.config.made_domains import folder_of, record_of, with_record, without_record
from mcmt.config.made_settings import RECORD, MadeDomain
from mcmt.config.settings import Settings
from mcmt.config.sources import Content
from mcmt.errors import ControlError, MessageError, SpoolError
from mcmt.spool.folder import prepare_folder, remove_file, write_file

_IS_PEM = re.compile(r"(.+)-[0-9a-f]{16}\.pem").fullmatch
"""See MadeDomain.pem."""


class Making:
    """``mcmt.app.reloading.Alteration``: one domain is made, or gets another certificate."""

    def __init__(self, made: MadeDomain, pem: bytes, channels: Mapping[str, Channel]) -> None:
        self._made = made
        self._pem = pem
        self._channels = channels
        self._before: MadeDomain | None = None

    def content(self, settings: Settings, running: Content) -> Content | None:
        """See Alteration. Raises MessageError: there are too many, or the name is another app's."""
        made = self._made
        self._folder = folder_of(settings.spool.path)
        self._before = settings.made.get(made.domain)
        if self._before == made:
            return None
        if self._before is not None and self._before.app_id != made.app_id:
            raise MessageError(554, "5.3.5", f"{made.domain} is another app's")
        if self._before is None:
            if made.domain in settings.domains:
                raise MessageError(554, "5.3.5", f"{made.domain} has a stanza of its own: give it to the app by its id")
            making = [one.make_domains for one in settings.pyapns if one.make_domains is not None]
            most = max((one.most for one in making if one.suffix == made.suffix), default=0)
            if sum(one.suffix == made.suffix for one in settings.made.values()) >= most:
                raise MessageError(554, "5.3.5", f"{most} domains below {made.suffix} are made (make_domains.most)")
        prepare_folder(self._folder)
        write_file(self._folder / made.pem, self._pem)
        return with_record(running, settings.spool.path, made)

    def check(self, settings: Settings) -> None:
        """See Alteration: whatever would keep the engine from starting with it. Raises MessageError."""
        stanza = settings.domains.get(self._made.domain)
        if stanza is None:
            raise MessageError(451, "4.3.5", f"{self._made.domain} is not in the configuration")
        for finding in self._channels[stanza.delivery_method].check(stanza.options, stanza.routes):
            if finding.fault:
                raise MessageError(554, "5.3.5", f"{self._made.domain}: {finding.option}: {finding.text}")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self._folder / self._made.pem)
        except (OSError, ssl.SSLError) as error:  # a key that is too short for TLS of today, among others
            text = f"{self._made.domain}: its certificate cannot be used for TLS: {error.args[-1]}"
            raise MessageError(554, "5.3.5", text) from None

    def keep(self) -> None:
        """See Alteration."""
        write_file(self._folder / self._made.record, record_of(self._made))

    def undo(self) -> None:
        """See Alteration."""
        with contextlib.suppress(SpoolError):
            if self._before is None:
                remove_file(self._folder / self._made.record)
            else:
                write_file(self._folder / self._made.record, record_of(self._before))
            if self._before is None or self._before.pem != self._made.pem:
                remove_file(self._folder / self._made.pem)

    def done(self) -> None:
        """See Alteration: of earlier certificates the last one stays, for connections that are being opened by it."""
        _remove_certificates(self._folder, self._made, keeping=(self._made, self._before))


class LettingGo:
    """``mcmt.app.reloading.Alteration``: one domain is let go of."""

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def content(self, settings: Settings, running: Content) -> Content | None:
        """See Alteration. Raises ControlError: it was not made."""
        made = settings.made.get(self._domain)
        if made is None:
            raise ControlError(f"{self._domain} was not made for an app; mcmt pyapns list has those that were")
        self._made, self._folder = made, folder_of(settings.spool.path)
        return without_record(running, settings.spool.path, made)

    def check(self, settings: Settings) -> None:
        """See Alteration."""

    def keep(self) -> None:
        """See Alteration."""
        remove_file(self._folder / self._made.record)

    def undo(self) -> None:
        """See Alteration."""
        with contextlib.suppress(SpoolError):
            write_file(self._folder / self._made.record, record_of(self._made))

    def done(self) -> None:
        """See Alteration."""
        _remove_certificates(self._folder, self._made, keeping=())


def remove_leftovers(spool: Path) -> None:
    """Remove what a crash has left: files that were being written, certificates whose record never came. Blocking."""
    folder = folder_of(spool)
    if not folder.is_dir():
        return
    with contextlib.suppress(OSError, SpoolError):
        for entry in list(folder.iterdir()):
            its = _IS_PEM(entry.name)
            if entry.name.endswith(".part") or (its and not (folder / f"{its[1]}{RECORD}").exists()):
                remove_file(entry)


def _remove_certificates(folder: Path, made: MadeDomain, keeping: Sequence[MadeDomain | None]) -> None:
    kept = {one.pem for one in keeping if one is not None}
    with contextlib.suppress(OSError, SpoolError):
        for entry in list(folder.iterdir()):
            its = _IS_PEM(entry.name)
            if its and its[1] == made.domain and entry.name not in kept:
                remove_file(entry)
