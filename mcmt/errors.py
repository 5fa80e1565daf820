"""Every exception that crosses a module's edge, as one tree.

    McmtError
    ├── ConfigError            the configuration is wrong; carries every Fault found
    ├── MessageError           a message cannot be accepted; carries the SMTP reply for its sender
    ├── SpoolError             the spool cannot do what was asked; nothing was changed
    │   ├── SpoolLocked            another engine holds it; names its pid
    │   ├── SpoolFull              less than min_free is left on its disk
    │   ├── OutboxAway             the process that has the outbox is being started again
    │   ├── SpoolDamaged           a page of its file is damaged; opening it again salvages it
    │   ├── NotKept                this one thing cannot be kept, whatever the disk does
    │   ├── NotOut                 a delivery was settled that nobody had pulled: a bug of the caller's
    │   └── SpoolUnusable          wrong schema version, unwritable folder, damaged file
    ├── BusError               another process of the engine refused or failed
    │   └── BusLost                it ended before it answered: what was asked may have been done
    ├── RunAsError             the engine cannot become the user that run_as names
    ├── ListenError            an address of a listener cannot be bound; names it and the reason
    ├── TelemetryError         spans are to be sent, and what sends them is not installed
    ├── EventLogError          a log file cannot be had; names the file and what to do
    ├── ProtocolError          the peer broke the protocol, or we were about to
    ├── ChannelError           a connection to a route cannot be had
    │   ├── ConnectError           temporary: look-up, TCP, TLS or greeting failed
    │   └── RouteFaultError        the route's own fault (certificate, key): suspend it, keep the mail
    └── ControlError           a command could not be carried out by the running engine

Rules: foreign exceptions are mapped to these at the edge where they appear; expected refusals of a
gateway are Outcomes (mcmt/message/status.py), never exceptions; any other exception is a bug of ours.
"""

from __future__ import annotations

from typing import NamedTuple


class McmtError(Exception):
    """Base of every exception that mcmt raises on purpose."""


class Fault(NamedTuple):
    """One thing wrong with a configuration file: where, and what to do about it."""

    place: str
    """``file:line:column``, or the file alone where no line is to blame."""
    option: str
    """Dotted path of the option, as in ``domain.apn.example.com.routes``."""
    text: str
    """What is wrong and what would be right."""

    def __str__(self) -> str:
        return f"{self.place}: {self.option}: {self.text}" if self.option else f"{self.place}: {self.text}"


class ConfigError(McmtError):
    """The configuration cannot be used; ``faults`` lists every reason found in one run."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class MessageError(McmtError):
    """A message cannot be accepted; its fields are the SMTP reply (RFC 5321 4.2, RFC 3463)."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(f"{code} {enhanced} {text}")
        self.code = code
        self.enhanced = enhanced
        self.text = text


class SpoolError(McmtError):
    """The spool cannot do what was asked; no part of it was done."""


class SpoolLocked(SpoolError):  # noqa: N818 - a state, named as the operator meets it
    """Another engine holds the spool."""


class SpoolFull(SpoolError):  # noqa: N818 - a state, named as the operator meets it
    """Less than min_free is left on the spool's disk: no message is accepted, deliveries go on."""


class OutboxAway(SpoolError):  # noqa: N818 - a state, and it passes
    """The process that keeps the outbox is not there for the moment: its rows are safe and are read when it is back."""


class SpoolDamaged(SpoolError):  # noqa: N818 - a state, named as the operator meets it
    """A page of the spool's file is damaged: nothing is sure until it was opened again, which salvages it."""


class NotKept(SpoolError):  # noqa: N818 - a state of a change
    """The spool takes other changes and not this one: it is at fault itself, or a row that it is about is."""


class NotOut(SpoolError):  # noqa: N818 - a state of a delivery
    """A delivery is settled that is not out; ``row`` is its key."""

    def __init__(self, row: int) -> None:
        super().__init__(f"delivery row {row} cannot be settled: it is not out")
        self.row = row


class SpoolUnusable(SpoolError):  # noqa: N818 - a state, named as the operator meets it
    """The spool cannot be opened: schema version, rights or damage; the text says which and what to do."""


class BusError(McmtError):
    """Another process of this engine could not do what it was asked."""


class BusLost(BusError):  # noqa: N818 - a state of the connection
    """The other process ended before it answered: what was asked was done, or was not."""


class ListenError(McmtError):
    """A listener cannot be had on an address; the text names it, the reason, and what to do."""


class TelemetryError(McmtError):
    """Spans cannot be sent as the configuration says; the text says what to do."""


class RunAsError(McmtError):
    """The engine cannot become the user that ``run_as`` names; the text says what to do."""


class EventLogError(McmtError):
    """The event log cannot be opened, or was stopped before all lines were written; the text names the file."""


class ProtocolError(McmtError):
    """The peer broke the protocol. ``code`` is the protocol's own error code (RFC 9113 section 7)."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class ChannelError(McmtError):
    """A connection to a route cannot be had."""


class ConnectError(ChannelError):
    """Temporary: the look-up, TCP, TLS or the protocol's greeting failed."""


class RouteFaultError(ChannelError):
    """The route's own fault (a revoked certificate, a key that cannot sign): suspend it and keep the mail."""


class ControlError(McmtError):
    """The running engine could not be reached, or refused a command."""
