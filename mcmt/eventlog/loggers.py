"""The loggers: which events go into which file, and how they are rendered.

| logger | takes |
|---|---|
| a channel's | D, T, P of its channel, as its switches say |
| main log | everything but G, whose delivery has a P line: it is the ledger, and has no switches |
| reject log | J |
| token log | G |

and each its own heartbeat (M): the event's ``channel`` is the logger's name.

Rules: a logger renders and holds no file. Rendering depends on the event and the settings alone, because
after a crash the writer renders again and looks for the line in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcmt.config.settings import EventLogSettings, RotateSettings, Settings
from mcmt.errors import EventLogError
from mcmt.eventlog.escape import escape
from mcmt.eventlog.format import compile_format
from mcmt.eventlog.jsonline import compile_json, compile_token_json
from mcmt.eventlog.mainlog import MAINLOG, REJECTLOG
from mcmt.eventlog.names import looks_rotated
from mcmt.eventlog.tokens import compile_tokens
from mcmt.message.event import Event, Kind

_TIME = re.compile(rb'(?:\{"type":"M","time":)?(\d{9,11}(?:\.\d{1,6})?)(?![\d.])')
_LONGEST_HEARTBEAT = 256

Renderers = Mapping[Kind, Callable[[Event], str]]


class EventLogger:
    """One log file's name, its place, and what it makes of each event."""

    def __init__(self, name: str, settings: EventLogSettings, renderers: Renderers) -> None:
        self.name = name
        """Unique among the loggers: the key of its position, and the ``channel`` of its heartbeats."""
        self.settings = settings
        self.path: Path = settings.logfile
        self.mode: int = settings.logmode
        self.heartbeat: float = settings.heartbeat
        """Seconds between heartbeats; 0: none."""
        self.rotate: RotateSettings | None = settings.rotate
        self._channel = settings.channel
        self._renderers = renderers
        self._hide_tokens = compile_tokens(settings.token_log)

    def render(self, event: Event) -> str | None:
        """The event's line without its newline, or None when it is not for this logger. Never raises."""
        kind = event.kind
        render = self._renderers.get(kind)
        if render is None:
            return None
        if kind is Kind.HEARTBEAT:
            if event.channel != self.name:
                return None
        elif self._channel is not None and event.channel != self._channel:
            return None
        try:
            return render(event if self._hide_tokens is None else self._hide_tokens(event))
        except Exception as error:  # one event that cannot be rendered must not stop the log
            return f"{event.time}@{kind.value}@{escape(event.id)}@[internal] cannot be rendered: {type(error).__name__}"

    def is_heartbeat(self, line: bytes) -> bool:
        """*line* is a heartbeat of this logger's, where its format begins with the time as all do by default."""
        match = _TIME.match(line)
        if match is None or len(line) > _LONGEST_HEARTBEAT:
            return False
        beat = self.render(Event(kind=Kind.HEARTBEAT, time=float(match[1]), channel=self.name))
        return beat is not None and beat.encode() == line


def build_loggers(settings: Settings) -> Sequence[EventLogger]:
    """Every logger that the settings name. Raises EventLogError for a bad format or file name, or a file of two."""
    loggers = [EventLogger(entry.name, entry, _channel_renderers(entry)) for entry in settings.channel_loggers]
    loggers += [EventLogger(entry.name, entry, _all_or_json(entry, MAINLOG)) for entry in settings.mainlog]
    # A main log and a reject log come from one stanza; a position needs a name that is one file's own.
    loggers += [
        EventLogger(entry.name.removesuffix(".rejectlog") + ".rejectlog", entry, _all_or_json(entry, REJECTLOG))
        for entry in settings.rejectlog
    ]
    token_json = {Kind.TOKEN: compile_token_json(), Kind.HEARTBEAT: compile_json()}
    loggers += [EventLogger(entry.name, entry, token_json) for entry in settings.token_loggers]
    owners: dict[str | Path, EventLogger] = {}
    for logger in loggers:
        if looks_rotated(logger.path.name):
            raise EventLogError(f"{logger.path}: is a name as rotated files have; give {logger.name} another logfile")
        for key, what in ((logger.path.resolve(), f"the file {logger.path}"), (logger.name, "a name")):
            other = owners.setdefault(key, logger)
            if other is not logger:
                raise EventLogError(f"the loggers {other.name} and {logger.name} share {what}: give each its own")
    return loggers


def _all_or_json(settings: EventLogSettings, text: Renderers) -> Renderers:
    if settings.format == "text":
        return text
    return dict.fromkeys(text, compile_json())


def _channel_renderers(settings: EventLogSettings) -> Renderers:
    taken = {
        Kind.DELIVERY: ("log_delivery_format", settings.log_delivery, settings.delivery_format),
        Kind.TRANSIENT: ("log_tempfail_format", settings.log_tempfail, settings.tempfail_format),
        Kind.PERMANENT: ("log_permfail_format", settings.log_permfail, settings.permfail_format),
        Kind.HEARTBEAT: ("log_heartbeat_format", True, settings.heartbeat_format),
    }
    json = compile_json() if settings.format == "json" else None
    renderers: dict[Kind, Callable[[Event], str]] = {}
    for kind, (option, wanted, text) in taken.items():
        if not wanted:
            continue
        try:
            renderers[kind] = json or compile_format(text)
        except ValueError as error:
            raise EventLogError(f"{settings.name}.{option}: {error}") from None
    return renderers
