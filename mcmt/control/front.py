"""What the answers to commands need of the process that clients of the engine see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mcmt.control.protocol import Reloaded
from mcmt.control.station import Station
from mcmt.eventlog.tally import Tally
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.spool.port import TokenTable
from mcmt.spool.registration import Registrations
from mcmt.telemetry.status import TelemetryStatus
from mcmt.webhooks.status import WebhookStatus


class Front(Protocol):
    """What is asked of the process that clients of the engine see."""

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every SMTP socket."""

    @property
    def listening(self) -> Sequence[tuple[str, str, int]]:
        """What is spoken on which host and port, over all doors."""

    @property
    def sessions(self) -> int:
        """SMTP clients connected."""

    @property
    def stations(self) -> Sequence[Station]:
        """Every shard, with its engine."""

    @property
    def tokens(self) -> TokenTable:
        """The gone tokens."""

    @property
    def registrations(self) -> Registrations | None:
        """The devices that XMPP servers push to; None: there is no component."""

    @property
    def attachments(self) -> Sequence[Attachment]:
        """How the components stand with their XMPP servers."""

    @property
    def tally(self) -> Tally:
        """What has happened since the start, counted."""

    @property
    def webhooks(self) -> Sequence[WebhookStatus]:
        """How each webhook fares."""

    @property
    def telemetry(self) -> TelemetryStatus | None:
        """How the export of spans fares; None: there is none."""

    @property
    def workers(self) -> Sequence[int]:
        """Pids of the processes that deliver."""

    async def reload(self, *, check: bool) -> Reloaded:
        """Read the configuration again and go on by it; *check*: only say what it changes. Raises ControlError."""

    async def let_go_of(self, domain: str) -> None:
        """Have that domain, which was made for an app, be there no more. Raises McmtError."""

    @property
    def missing(self) -> Sequence[str]:
        """Why some shards are not among them at the moment: one text each."""
