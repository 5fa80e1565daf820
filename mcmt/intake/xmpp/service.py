"""What a component answers: pushes into the spool, devices into the table of registrations.

An XMPP server lets go of a subscription for good when a push is answered with an error of any type but ``wait``. So:
``result`` when the push is on disk; ``wait`` whenever that is not sure; anything else for a device token that is known
to be gone, a node that nobody registered, and a wrong secret.

Rules: nobody is answered later than ANSWER_WITHIN, since ejabberd listens for 32 s; a stanza that is at work counts in
the intake's memory; what cannot be read, or is none of ours, harms nobody else.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from mcmt.clock import Clock, Timer
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.errors import McmtError, MessageError, SpoolError
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.xmpp.commands import NAMES, Asked, Command, is_token, read_command, registered, unregistered
from mcmt.intake.xmpp.notification import push
from mcmt.intake.xmpp.shown import StanzaWatch
from mcmt.intake.xmpp.stanza import (
    Jid,
    Note,
    Publish,
    Refusal,
    disco,
    error,
    is_ping,
    read_note,
    read_publish,
    result,
)
from mcmt.message.model import Envelope, Part
from mcmt.spool.port import GoneTokens
from mcmt.spool.registration import DEVICES, Registration, Registrations

log = logging.getLogger(__name__)

PROTOCOL: Final = "xmpp"
"""This door's word in the main log."""
ANSWER_WITHIN: Final = 25.0
"""Seconds after which a push that is not on disk yet is answered ``wait``; it may be sent all the same."""
PENDING: Final = 1000
"""Stanzas at work at a time. What comes then is answered ``wait``."""
_TICK: Final = 1.0
_ELEMENT: Final = 200
"""Octets of memory that an element takes beside its text, about."""
_TOKEN_NODE: Final = 64
"""Hex digits from which on a node that nobody registered is a device token itself."""
_APP_OPTIONS: Final = ("pushModule", "topic")
_TOKEN_OPTIONS: Final = ("device_id", "token")

Say = Callable[[str], None]
"""Sends a stanza; after the connection has gone, nowhere."""

_BUSY = Refusal("wait", "resource-constraint", "too much is being received; try again later")
_NOT_KEPT = Refusal("wait", "resource-constraint", "the push was not kept; try again later")
_UNKNOWN = Refusal("cancel", "item-not-found", "no device is registered under this node")
_UNSERVED = Refusal("wait", "not-allowed", "users of this server are not served here")
_FORBIDDEN = Refusal("auth", "forbidden", "the secret is not that of the node, or the sender is not its server")
_NOT_OURS = Refusal("cancel", "service-unavailable", "this is a service for push notifications (XEP-0357)")
_FULL = Refusal("cancel", "not-allowed", f"{DEVICES} devices are registered for you; unregister one")


class Peer(NamedTuple):
    """The connection that a stanza came over."""

    address: str
    connection_id: str
    say: Say


class _Refused(Exception):  # noqa: N818 - an answer, raised where it is found out
    """The stanza is answered with an error."""

    def __init__(self, refusal: Refusal, reason: MessageError | None) -> None:
        """*reason*: for the reject log; None: it has its own line elsewhere."""
        super().__init__(refusal.text)
        self.refusal = refusal
        self.reason = reason


class _Pending:
    """An iq that is at work."""

    __slots__ = ("answered", "deadline", "iq", "say")

    def __init__(self, iq: Element, say: Say, deadline: float) -> None:
        self.iq = iq
        self.say = say
        self.deadline = deadline
        self.answered = False

    def answer(self, text: str) -> None:
        if not self.answered:
            self.answered = True
            self.say(text)


class PushService:
    """One component."""

    def __init__(
        self,
        settings: XmppSettings,
        reception: Reception,
        memory: IntakeMemory,
        registrations: Registrations,
        gone_tokens: GoneTokens | None,
        clock: Clock,
        random_bits: Callable[[int], int],
        answer_within: float | None = None,
    ) -> None:
        """*answer_within*: ANSWER_WITHIN where it is not given."""
        self._settings = settings
        self._reception = reception
        self._memory = memory
        self._registrations = registrations
        self._gone_tokens = gone_tokens
        self._clock = clock
        self._random_bits = random_bits
        self._answer_within = ANSWER_WITHIN if answer_within is None else answer_within
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[_Pending, None] = {}
        """In the order of their deadlines."""
        self._timer: Timer | None = None
        self._stopping = False
        self._watch = StanzaWatch(reception.tracing, PROTOCOL)

    def take(self, stanza: Element, peer: Peer) -> None:
        """Do what *stanza* asks, and answer it. Does not wait."""
        name = stanza.tag.rpartition("}")[2]
        if self._watch.on:
            peer = peer._replace(say=self._watch.told(stanza, self._domain_of(stanza), *peer))
        if name == "iq" and stanza.get("type") in ("get", "set"):
            self._take_iq(stanza, peer)
        elif name == "message" and stanza.get("type") != "error" and (note := read_note(stanza)) is not None:
            self._begin(stanza, partial(self._note, stanza, note, peer), None)

    async def drain(self, limit: float) -> None:
        """Take nothing more; let what is at work come to its end, for up to *limit* seconds."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit)
        for pending in self._pending:
            pending.answer(error(pending.iq, _NOT_KEPT))
        if self._timer is not None:
            self._timer.cancel()

    # -- one stanza ---------------------------------------------------------------------------------------------------

    def _take_iq(self, iq: Element, peer: Peer) -> None:
        if (publish := read_publish(iq)) is not None:
            pending = _Pending(iq, peer.say, self._clock.monotonic() + self._answer_within)
            self._begin(iq, partial(self._iq, pending, partial(self._publish, iq, publish, peer)), pending)
        elif is_ping(iq):
            peer.say(result(iq))
        elif (told := disco(iq, NAMES)) is not None:
            peer.say(told)
        else:
            self._take_command(iq, peer)

    def _take_command(self, iq: Element, peer: Peer) -> None:
        match read_command(iq, Jid.of(iq.get("from", "")).resource, f"{self._random_bits(64):016x}"):
            case None:
                peer.say(error(iq, _NOT_OURS))
            case Refusal() as refusal:
                peer.say(error(iq, refusal))
            case Asked(answer):
                peer.say(answer)
            case command:
                pending = _Pending(iq, peer.say, self._clock.monotonic() + self._answer_within)
                self._begin(iq, partial(self._iq, pending, partial(self._command, iq, command)), pending)

    def _begin(self, stanza: Element, work: Callable[[], Awaitable[None]], pending: _Pending | None) -> None:
        octets = sum([_ELEMENT + len(each.text or "") for each in stanza.iter()])
        if self._stopping or len(self._tasks) >= PENDING or not self._memory.take(octets):
            if pending is not None:
                pending.answer(error(stanza, _BUSY))
            return
        if pending is not None:
            self._pending[pending] = None
            if self._timer is None:
                self._timer = self._clock.call_later(_TICK, self._look)

        async def run() -> None:
            try:
                await work()
            except Exception:
                log.exception("%s: a fault of ours in a stanza of %s", self._settings.jid, self._settings.place)
                if pending is not None:
                    pending.answer(error(stanza, _NOT_KEPT))
            finally:
                self._memory.give_back(octets)
                if pending is not None:
                    self._pending.pop(pending, None)

        task = asyncio.get_running_loop().create_task(run(), name="stanza")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look(self) -> None:
        """Answer those whose time is over."""
        now = self._clock.monotonic()
        overdue = [pending for pending in self._pending if pending.deadline <= now]
        for pending in overdue:
            del self._pending[pending]
            pending.answer(error(pending.iq, _NOT_KEPT))
        self._timer = self._clock.call_later(_TICK, self._look) if self._pending else None

    async def _iq(self, pending: _Pending, work: Callable[[], Awaitable[str]]) -> None:
        try:
            answer = await work()
        except _Refused as refused:
            answer = error(pending.iq, refused.refusal)
        pending.answer(answer)

    # -- pushes -------------------------------------------------------------------------------------------------------

    async def _publish(self, iq: Element, publish: Publish, peer: Peer) -> str:
        """The answer when the push is on disk. Raises _Refused."""
        sender = Jid.of(iq.get("from", ""))
        domain = self._domain(publish)
        envelope = self._envelope(peer, domain or self._settings.domain, sender.bare)
        try:
            if not self._settings.serves(sender.server):
                raise _refused(_UNSERVED, 550, "5.7.1", f"{sender.server or 'nobody'} is not among servers")
            token, since = self._token(publish, sender)
            if not domain:
                raise _refused(_NOT_KEPT, 451, "4.3.5", "the publish-options name an app that is not among apps")
            gone = self._gone(domain, [token]).get(token, 0.0)
            if gone and gone >= since:
                raise _refused(_UNKNOWN, 550, "5.1.6", "the device token is gone")
            part = push(publish.summary, [token], since if gone else 0.0, self._settings)
            await self._keep(envelope, [part])
        except _Refused as refused:
            if refused.reason is not None:
                self._reception.reject(envelope, "publish", refused.reason)
            raise
        except MessageError as reason:
            # What keeps it from being pushed is the configuration, or a fault of ours: the subscription is good.
            self._reception.reject(envelope, "publish", reason)
            raise _Refused(_NOT_KEPT, None) from None
        except McmtError as trouble:
            self._not_kept(peer, trouble)
            raise _Refused(_NOT_KEPT, None) from None
        return result(iq)

    async def _note(self, stanza: Element, note: Note, peer: Peer) -> None:
        """A message of mod_push_offline: to every device of its recipient. There is no answer."""
        owner = Jid.of(stanza.get("from", ""))
        envelope = self._envelope(peer, self._settings.domain, owner.bare)
        try:
            # A server's word has no resource; a user's always has one, and users may not speak for servers.
            if owner.resource or not self._settings.serves(owner.server):
                raise MessageError(550, "5.7.1", "is not from a server that is served here")
            devices = self._registrations.of_owner(self._settings.jid, owner.bare)
            parts = self._parts(note, devices)
            if not parts:
                raise MessageError(550, "5.1.1", f"no device of {owner.bare} is registered, or all are gone")
            await self._keep(envelope, parts)
        except MessageError as reason:
            self._reception.reject(envelope, "message", reason)
        except McmtError as trouble:
            self._not_kept(peer, trouble)

    def _parts(self, note: Note, devices: Sequence[Registration]) -> list[Part]:
        summary = {"last-message-sender": note.sender, "last-message-body": note.body}
        known: dict[str, float] = {one.token: one.registered for one in devices}
        gone = self._gone(self._settings.domain, list(known)) if known else {}
        lasting = [token for token in known if token not in gone]
        parts = [push(summary, lasting, 0.0, self._settings)] if lasting else []
        again = [token for token, since in gone.items() if known[token] > since]
        return parts + [push(summary, [token], known[token], self._settings) for token in again]

    def _token(self, publish: Publish, sender: Jid) -> tuple[str, float]:
        """The device token that is published to, and when it was registered. Raises _Refused, SpoolError."""
        one = self._registrations.find(self._settings.jid, publish.node)
        if one is not None:
            owner = Jid.of(one.owner)
            # By the owner's server, which has no resource; or by the owner.
            own = sender.bare == one.owner if sender.resource else sender.server == owner.server
            secret = publish.options.get("secret", "").encode("utf-8", "replace")
            if not own or not hmac.compare_digest(secret, one.secret.encode()):
                raise _refused(_FORBIDDEN, 535, "5.7.8", "the secret is not that of the node, or its server is another")
            return one.token, one.registered
        named = [publish.options.get(option, "") for option in _TOKEN_OPTIONS]
        for text in (*named, publish.node):
            if not sender.resource and len(text) >= _TOKEN_NODE and is_token(text):
                return text.lower(), 0.0
        raise _refused(_UNKNOWN, 550, "5.1.1", f"no device is registered under the node {publish.node[:80]}")

    def _domain_of(self, stanza: Element) -> str:
        """What a stanza is about; the component's own domain where it names no other."""
        publish = read_publish(stanza)
        return (publish and self._domain(publish)) or self._settings.domain

    def _domain(self, publish: Publish) -> str:
        """What is pushed to; empty: the app that is named has no domain."""
        app = next((publish.options[option] for option in _APP_OPTIONS if publish.options.get(option)), "")
        if not app or not self._settings.apps:
            return self._settings.domain
        return self._settings.apps.get(app, "")

    def _gone(self, domain: str, tokens: list[str]) -> dict[str, float]:
        return {} if self._gone_tokens is None else dict(self._gone_tokens.since(domain, tokens))

    async def _keep(self, envelope: Envelope, parts: list[Part]) -> None:
        size = sum([len(part.content) for part in parts])
        await self._reception.receive_parts(envelope, parts, size)

    def _envelope(self, peer: Peer, domain: str, user: str) -> Envelope:
        recipients = (f"{PROTOCOL}@{domain}",)
        return Envelope(self._settings.return_path, recipients, peer.address, peer.connection_id, PROTOCOL, user)

    def _not_kept(self, peer: Peer, trouble: McmtError) -> None:
        told = trouble if isinstance(trouble, SpoolError) else SpoolError(str(trouble))
        self._reception.tell_not_kept(peer.connection_id, peer.address, told)

    # -- registrations ------------------------------------------------------------------------------------------------

    async def _command(self, iq: Element, command: Command) -> str:
        """The answer to a command that was carried out. Raises _Refused."""
        sender, jid = Jid.of(iq.get("from", "")), self._settings.jid
        if not self._settings.serves(sender.server) or "@" not in sender.bare:
            raise _Refused(Refusal("auth", "forbidden", _UNSERVED.text), None)
        try:
            if not command.token:
                # Without a name of the device it would be all of them.
                remove = partial(self._registrations.remove, jid, owner=sender.bare, device=command.device)
                if not command.device or not await asyncio.to_thread(remove):
                    raise _Refused(Refusal("cancel", "item-not-found", "no such device is registered for you"), None)
                return unregistered(iq, command)
            one = await asyncio.to_thread(
                self._registrations.put,
                Registration(
                    service=jid,
                    node=f"{self._random_bits(96):024x}",
                    owner=sender.bare,
                    device=command.device,
                    token=command.token,
                    secret=f"{self._random_bits(192):048x}",
                    registered=self._clock.time(),
                ),
            )
        except SpoolError as trouble:
            log.warning("%s: a device was not registered: %s", jid, trouble)
            raise _Refused(_NOT_KEPT, None) from None
        if one is None:
            raise _Refused(_FULL, None)
        return registered(iq, command, jid, one.node, one.secret)


def _refused(refusal: Refusal, code: int, enhanced: str, text: str) -> _Refused:
    return _Refused(refusal, MessageError(code, enhanced, text))
