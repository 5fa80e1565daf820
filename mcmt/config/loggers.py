"""The logger stanzas, read into EventLogSettings: each channel's notification logs, the main log, the reject log, the
token log."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilesystemPath
from typing import Any

import msgspec

from mcmt.config.channel_schema import Channels, LoggerSchema
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.rotate_schema import RotateStanza
from mcmt.config.schema import ChannelLoggerStanza, MainLoggerStanza, TokenLoggerStanza
from mcmt.config.settings import DomainSettings, EventLogSettings, RotateSettings

MAIN = "ec_logger"
TOKENS = "token_logger"

_SAME = ("logmode", "heartbeat", "format", "token_log")


class Loggers(msgspec.Struct, frozen=True):
    """What Settings has of them."""

    channel_loggers: tuple[EventLogSettings, ...]
    mainlog: tuple[EventLogSettings, ...]
    rejectlog: tuple[EventLogSettings, ...]
    token_loggers: tuple[EventLogSettings, ...]


def read_loggers(
    checker: Checker,
    channels: Channels,
    domains: Mapping[str, DomainSettings],
    spool: FilesystemPath,
    check_format: Callable[[str], None] | None,
) -> Loggers:
    """Every logger that is right; what is wrong is noted in *checker*."""
    files = _Files(checker, spool)
    channel_loggers = []
    for kind, channel in sorted(channels.items()):
        if channel.LOGGER is None:
            continue
        named = _stanzas(checker, channel.LOGGER.stanza)
        for name, options in named.items():
            path = (channel.LOGGER.stanza, name)
            logger = _channel_logger(checker, path, kind, channel.LOGGER, options, check_format)
            if logger is not None:
                files.claim((*path, "logfile"), logger.logfile)
                channel_loggers.append(logger)
        _warn(checker, kind, channel.LOGGER.stanza, named, domains)
    mainlog, rejectlog = _main_loggers(checker, files)
    if not mainlog:
        # It is the ledger: it cannot be switched off.
        mainlog = (EventLogSettings(name=f"{MAIN}.default", channel=None, logfile=spool / "mainlog.ec"),)
        files.claim((MAIN,), mainlog[0].logfile)
    return Loggers(tuple(channel_loggers), mainlog, rejectlog, _token_loggers(checker, files))


_SPOOLS_OWN = re.compile(r"lock$|control\.sock|.*\.sqlite")
"""Names that the spool and the control socket have in the spool's folder."""


class _Files:
    """One file has one logger, and none of the spool's own has any."""

    def __init__(self, checker: Checker, spool: FilesystemPath) -> None:
        self._checker = checker
        self._spool = spool.resolve()
        self._taken: dict[FilesystemPath, Path] = {}

    def claim(self, path: Path, file: FilesystemPath) -> None:
        resolved = file.resolve()
        if resolved.parent == self._spool and _SPOOLS_OWN.match(resolved.name):
            self._checker.fault(path, f"{file} is a file of the spool itself; name another")
        other = self._taken.setdefault(resolved, path)
        if other != path:
            self._checker.fault(path, f"{'.'.join(map(str, other))} already writes to {file}; give each its own file")


def _stanzas(checker: Checker, stanza: str) -> dict[str, Any]:
    return checker.mapping((stanza,), checker.data.get(stanza))


def _channel_logger(
    checker: Checker,
    path: Path,
    kind: str,
    defaults: LoggerSchema,
    options: object,
    check_format: Callable[[str], None] | None,
) -> EventLogSettings | None:
    stanza, _ = checker.stanza(ChannelLoggerStanza, path, options)
    if stanza is None:
        return None
    formats = {}
    for event in ("delivery", "tempfail", "permfail", "heartbeat"):
        written = getattr(stanza, f"log_{event}_format")
        formats[f"{event}_format"] = getattr(defaults, event) if written is None else written
        if check_format is None:
            continue
        try:
            check_format(formats[f"{event}_format"])
        except ValueError as error:
            checker.fault((*path, f"log_{event}_format"), str(error))
    return EventLogSettings(
        name=f"{path[0]}.{path[1]}",
        channel=kind,
        logfile=tidy(stanza.logfile or checker.base / defaults.logfile),
        log_delivery=stanza.log_delivery,
        log_tempfail=stanza.log_tempfail,
        log_permfail=stanza.log_permfail,
        rotate=_rotate(checker, path, stanza.rotate),
        **{option: getattr(stanza, option) for option in _SAME},
        **formats,
    )


def _main_loggers(checker: Checker, files: _Files) -> tuple[tuple[EventLogSettings, ...], tuple[EventLogSettings, ...]]:
    logs: dict[str, list[EventLogSettings]] = {"mainlog": [], "rejectlog": []}
    for name, options in _stanzas(checker, MAIN).items():
        path = (MAIN, name)
        stanza, wrong = checker.stanza(MainLoggerStanza, path, options)
        if stanza is None:
            continue
        if stanza.mainlog is None and stanza.rejectlog is None and not wrong:
            checker.fault(path, "names no file; give mainlog, rejectlog or both", key=True)
        rotate = _rotate(checker, path, stanza.rotate)
        for log, suffix in (("mainlog", ""), ("rejectlog", ".rejectlog")):
            file = getattr(stanza, log)
            if file is not None:
                files.claim((*path, log), file)
                logs[log].append(
                    EventLogSettings(
                        name=f"{MAIN}.{name}{suffix}",
                        channel=None,
                        logfile=tidy(file),
                        rotate=rotate,
                        **{option: getattr(stanza, option) for option in _SAME},
                    )
                )
    return tuple(logs["mainlog"]), tuple(logs["rejectlog"])


def _token_loggers(checker: Checker, files: _Files) -> tuple[EventLogSettings, ...]:
    found = []
    for name, options in _stanzas(checker, TOKENS).items():
        path = (TOKENS, name)
        stanza, _ = checker.stanza(TokenLoggerStanza, path, options)
        if stanza is None:
            continue
        files.claim((*path, "logfile"), stanza.logfile)
        found.append(
            EventLogSettings(
                name=f"{TOKENS}.{name}",
                channel=None,
                logfile=tidy(stanza.logfile),
                logmode=stanza.logmode,
                heartbeat=stanza.heartbeat,
                format="json",
                token_log=stanza.token_log,
                rotate=_rotate(checker, path, stanza.rotate),
            )
        )
    return tuple(found)


def _rotate(checker: Checker, path: Path, options: object) -> RotateSettings | None:
    if options is None:
        return None
    stanza, _ = checker.stanza(RotateStanza, (*path, "rotate"), options)
    return None if stanza is None else RotateSettings(**dict(stanza))


def _warn(
    checker: Checker, kind: str, stanza: str, named: Mapping[str, Any], domains: Mapping[str, DomainSettings]
) -> None:
    served = [name for name, domain in domains.items() if domain.delivery_method == kind]
    if served and not named:
        checker.warn(
            (stanza,),
            f"there is none, so deliveries for {served[0]} are only in the main log; add {stanza}: {{{stanza}1: {{}}}}",
            key=True,
        )


def tidy(path: FilesystemPath) -> FilesystemPath:
    """*path* without ``..``, as it is shown to people."""
    return FilesystemPath(os.path.normpath(path))
