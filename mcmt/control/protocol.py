"""What is said over the control socket: JSON lines, one request a line, its answers streamed.

    server   {"type":"hello","protocol":1,"version":"0.1.0","pid":4711}       once, when a client connects
    client   {"do":"queue","domain":"apn.example.com","limit":100}
    server   {"type":"item","item":{...}}                                     none or more
    server   {"type":"end"}                                                   or {"type":"failed",...}

``follow`` is answered by ``begun`` and then by an item for every log line; another ``follow`` on the same connection
takes the first one's place. It ends when the client hangs up, and so does ``trace``. Every other request is answered in
full before the next one is read. Fields are only added, with defaults; whoever reads skips what it does not know.

Rules: values only; no I/O.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mcmt.config.changes import DomainChange
from mcmt.control.engine_status import EngineStatus as EngineStatus
from mcmt.control.registrations import RegistrationRequest
from mcmt.control.rule_status import RuleStatus
from mcmt.engine.hands import Verb
from mcmt.spool.port import GoneToken, Selection

PROTOCOL = 1
"""Raised when an older client could misread an answer."""
MAX_LINE = 64 * 1024
"""Bytes of a request with its newline. Answers are as long as they must be."""

FailureCode = Literal["bad_request", "refused", "not_found", "busy", "too_slow", "spool", "stopping"]


# -- requests ---------------------------------------------------------------------------------------------------------


class Status(msgspec.Struct, frozen=True, tag_field="do", tag="status"):
    """Answered by one EngineStatus, then a DomainStatus for every domain that has something to do."""


class Rates(msgspec.Struct, frozen=True, tag_field="do", tag="rates"):
    """Answered by Totals (mcmt/eventlog/tally.py) of every domain that is counted by name, and of all others."""


class Queue(msgspec.Struct, frozen=True, tag_field="do", tag="queue"):
    """Answered by an Entry (mcmt/spool/port.py) for every delivery in the spool, oldest first."""

    domain: str | None = None
    """None: every domain."""
    limit: int | None = None
    """None: all of them."""
    selection: Selection = Selection()
    """Of these."""


class Count(msgspec.Struct, frozen=True, tag_field="do", tag="count"):
    """Count what is selected; answered by a Counts for every page of it and domain in it."""

    selection: Selection


class Order(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", tag="order"):
    """Do something to what is selected, a page in one transaction; answered by a Progress for every page.

    When the client hangs up, it ends behind the page that was begun. Something must be selected, or ``everything``."""

    verb: Verb
    selection: Selection
    everything: bool = False
    """That nothing is said in *selection* is meant so."""
    reason: str = ""
    """``bounce``, ``delete``: stands in the final line and in the report."""
    to: str = ""
    """``reroute``: the domain through whose stanza they go from now on."""
    through: dict[int, int] = {}
    """By shard: the last row to touch, as Counts said; nothing that came since. A shard that is not there: none."""


class Show(msgspec.Struct, frozen=True, tag_field="do", tag="show"):
    """Answered by the Entry of that delivery, or of every delivery of that batch; by ``not_found`` if there is none."""

    id: str


class Ids(msgspec.Struct, frozen=True, tag_field="do", tag="ids"):
    """Answered by IdLists of every delivery in the spool.

    ``end`` comes only when every event that was in the outbox at the end of the listing has its line in the logs: what
    was in the spool when this was asked, and is not listed, has its final line."""


class Suspend(msgspec.Struct, frozen=True, tag_field="do", tag="suspend"):
    """Send nothing to the domain, also over restarts; answered by its DomainStatus, or by ``refused``."""

    domain: str
    reason: str
    duration: float = 0.0
    """Seconds after which it is resumed by itself; 0: never."""


class Resume(msgspec.Struct, frozen=True, tag_field="do", tag="resume"):
    """Send to the domain again, whatever suspended it; answered by its DomainStatus, or by ``refused``."""

    domain: str
    trust: bool = False
    """Believe whom the gateway refuses, though it accepted nobody."""


class Retry(msgspec.Struct, frozen=True, tag_field="do", tag="retry"):
    """Try now what waits in the domain's queue; answered by its DomainStatus, or by ``refused``."""

    domain: str


Action = Suspend | Resume | Retry


class Domains(msgspec.Struct, frozen=True, tag_field="do", tag="domains"):
    """Answered by a DomainStatus for every stanza, and every domain that has something to do, by name."""


class Domain(msgspec.Struct, frozen=True, tag_field="do", tag="domain"):
    """Answered by one DomainDetail; by ``refused`` where nothing is known of the domain."""

    domain: str


class Rotate(msgspec.Struct, frozen=True, tag_field="do", tag="rotate"):
    """Answered by a Rotation (mcmt/eventlog/rotation.py) for every log asked for; by ``not_found`` if there is none."""

    logger: str | None = None
    """A logger's name, with its stanza or without; None: every log."""


class Tokens(msgspec.Struct, frozen=True, tag_field="do", tag="tokens"):
    """Answered by a GoneToken (mcmt/spool/port.py) for every token that is gone, as they were learned; as of Queue."""

    domain: str | None = None
    limit: int | None = None
    after: int = 0
    """Only those with a larger number."""


class ForgetTokens(msgspec.Struct, frozen=True, tag_field="do", tag="forget_tokens"):
    """Let go of *tokens* that are gone, or without any of all of the domain that were learned before a time, also those
    whose event was in an outbox when this was asked; answered by Counted."""

    domain: str
    tokens: tuple[str, ...] = ()
    learned_before: float = 0.0
    """Seconds since the epoch; without *tokens*."""


class LearnTokens(msgspec.Struct, frozen=True, tag_field="do", tag="learn_tokens"):
    """Take these for gone; answered by Counted: how many were not known, or not known to be gone since so late."""

    tokens: tuple[GoneToken, ...]


TokenRequest = Tokens | ForgetTokens | LearnTokens


class Follow(msgspec.Struct, frozen=True, tag_field="do", tag="follow"):
    """Answered by ``begun``, then a LogLine for every line that reached its log file from now on."""

    domain: str = ""
    """Only events of this routing domain, lower case; empty: of any."""
    batch_id: str = ""
    """Only events of this message; empty: of any."""
    token: str = ""
    """Only events of this device token; empty: of any."""
    kinds: str = ""
    """Only events of these letters (mcmt/message/event.py); empty: of any."""


class Trace(msgspec.Struct, frozen=True, tag_field="do", tag="trace"):
    """Answered by ``begun``, then by a Line (mcmt/wire/trace.py) for all that a domain's routes and clients say."""

    domain: str
    """The routing domain, lower case."""
    bodies: bool = False
    """Payloads too."""
    tokens: bool = False
    """Device tokens whole."""


class Reload(msgspec.Struct, frozen=True, tag_field="do", tag="reload"):
    """Read the configuration again and go on by it; answered by Reloaded."""

    check: bool = False
    """Only say what it would change."""


_Listing = Status | Rates | Queue | Show | Count | Ids | Domains | Domain
Question = _Listing | Reload | Order | Action | TokenRequest | RegistrationRequest
"""What the engine answers from its shards (answers.py)."""
Request = Question | Rotate | Follow | Trace


# -- answers ----------------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """Who answers."""

    protocol: int
    version: str
    pid: int


class Item(msgspec.Struct, frozen=True, tag_field="type", tag="item"):
    """One of the request's items, still in JSON."""

    item: msgspec.Raw


class Begun(msgspec.Struct, frozen=True, tag_field="type", tag="begun"):
    """From here on nothing is missed."""


class End(msgspec.Struct, frozen=True, tag_field="type", tag="end"):
    """All items have been sent."""


class Failed(msgspec.Struct, frozen=True, tag_field="type", tag="failed"):
    """The request could not be carried out, or not to its end."""

    code: FailureCode
    text: str
    """What happened and what to do, for a person."""


Answer = Hello | Item | Begun | End | Failed


# -- items ------------------------------------------------------------------------------------------------------------


class DomainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One domain that has deliveries in the spool, or connections."""

    domain: str
    channel: str = ""
    route: str = ""
    state: str = "idle"
    """``up``, ``down``, ``idle`` (nothing has been due lately), or why it is suspended."""
    reason: str = ""
    """What the gateway or the network said, where the state is not ``up``."""
    connections: int = 0
    in_flight: int = 0
    """On the wire, without an answer yet."""
    ready: int = 0
    """In memory, waiting for room on a connection."""
    held: int = 0
    """Refused in a way that is not believed yet (mcmt/engine/mismatch_guard.py)."""
    queued: int = 0
    """In the spool, those that are out included."""
    oldest: float | None = None
    """Seconds since the oldest of them was received."""
    on_hold: int = 0
    """Of these, held by hand."""
    next_due: float | None = None
    """Seconds until the earliest due time; 0: now. None: nothing is queued that is not held."""
    until: float | None = None
    """Seconds until a suspension by hand ends by itself."""
    high: int = 0
    bulk: int = 0
    """Of ``queued``, those of high priority, and those that let all others pass."""
    rules: tuple[RuleStatus, ...] = ()


class DomainDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One domain in full."""

    status: DomainStatus
    stanza: str
    """The name under ``domain:`` that applies to it; empty: none does."""
    routes: tuple[str, ...]
    settings: dict[str, str | int | float | bool | None]
    """What holds for its deliveries, apart from its channel's own options."""
    answers: dict[str, int]
    """How many of what is queued had which last answer, the most frequent first; none: not tried yet."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What one page of a selection has of one domain. Of several pages these add up."""

    shard: int
    through: int
    """The shard's last row when the count began."""
    domain: str
    deliveries: int
    messages: int
    """Those that began in an earlier page are not counted again."""
    held: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one page of a selection."""

    done: int = 0
    busy: int = 0
    """Left alone: they are on the wire, and their answers decide."""
    ended: int = 0
    """They had ended, or changed, before their turn came."""
    unfit: int = 0
    """Left alone: the domain that they were to go through has another channel, or is the one they have."""


class IdLists(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of some deliveries, as IdPage (mcmt/spool/port.py) has them."""

    due: tuple[str, ...] = ()
    """To be tried now, or being tried."""
    waiting: tuple[str, ...] = ()
    """To be tried again later."""
    held: tuple[str, ...] = ()
    """Not to be tried until they are released."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many it were."""

    count: int


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration that was read again has changed, or with ``check`` would change."""

    config: str
    check: bool = False
    faults: tuple[str, ...] = ()
    """What is wrong with it, each with its place; where there are any, nothing was changed."""
    warnings: tuple[str, ...] = ()
    """What works and is probably not meant."""
    domains: tuple[DomainChange, ...] = ()
    """Stanzas that are other ones now."""
    options: tuple[str, ...] = ()
    """Other options that are, by their paths."""
    restart: tuple[str, ...] = ()
    """What has changed in the file and holds only after a restart, by its path."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line as it stands in a log file, and what it tells."""

    logger: str
    ledger: bool
    """It is the main log's: of every event exactly one line is. A channel's own line of the event comes before it."""
    kind: str
    """The letter of mcmt/message/event.py."""
    id: str
    batch_id: str
    attempt: int
    deliveries: int
    """Reception: how many deliveries the recipient became."""
    line: str
