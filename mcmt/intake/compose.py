"""Envelope and content in; message, deliveries and events out: everything that one accepted message is.

Pure, and independent of the door through which the message came. Every refusal is a MessageError with the reply.

Rules: deliveries are numbered from 1 over the message, recipient by recipient; nobody is dropped: a recipient either
has deliveries, or a failure in the same transaction, or the whole message is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from mcmt.channel.port import Channel, Reading, Target
from mcmt.config.settings import DomainSettings, Settings
from mcmt.errors import MessageError
from mcmt.intake.collapsing import collapse_ids, collapse_key
from mcmt.intake.suppression import CODE, Dead, Suppression
from mcmt.message.address import domain_of
from mcmt.message.dsn import MAX_HEADER_BLOCK
from mcmt.message.event import Event, Kind
from mcmt.message.failure import Failure, return_path_of
from mcmt.message.header_fields import find_end, read_fields
from mcmt.message.mime import MEDIA_TYPE, ParsedMessage, parse
from mcmt.message.model import Envelope, Message, NewDelivery, Part, header
from mcmt.message.notification import DELAY, FAILED, FAILURE, Asked, wants
from mcmt.message.priority import WORDS, read_priority

McmtReception = Literal["passthru", "allow", "reject"]

WHOLE = "message/rfc822"
"""The media type of a whole message, for channels that take no part of their own."""
NOW_OR_NEVER = 60.0
"""Seconds that a delivery lives whose message says that it ends at once (``apns-expiration: 0``)."""
NO_PART = "[internal] the message has no part for this channel"
_NO_PART_CODE = "554"
_NO_PART_STATUS = "5.6.1"


def open_message(data: bytes, mcmt_reception: McmtReception) -> ParsedMessage:
    """Take *data* apart where the listener takes MCMT messages apart; else read its header fields alone.

    So a message that is only passed through is never refused for what its parts are like. Raises MessageError.
    """
    if mcmt_reception == "allow":
        return parse(data)
    end, _ = find_end(data, 0, len(data))
    headers = read_fields(data[:end])
    media_type = (header(headers, "content-type") or "").partition(";")[0].partition("(")[0]
    return ParsedMessage(data[:end], headers, media_type.strip().lower() == MEDIA_TYPE, ())


class Schedule(NamedTuple):
    """When a message is to be sent, apart from what its parts say. Seconds since the epoch."""

    due: float = 0.0
    """Not before; 0: at once. A delivery's life begins here."""
    expires: float = math.inf
    """Not after."""
    tell_late: float = 0.0
    """When the sender is told that it is late, unless it says that it does not want to hear of that; 0: when its domain
    says so, of those that want to."""


NOW: Final = Schedule()


class Composed(NamedTuple):
    """What the spool is asked to keep, in the order of ``Spool.accept``."""

    message: Message
    deliveries: Sequence[NewDelivery]
    events: Sequence[Event]
    failures: Sequence[Failure]
    """Of the recipients for whom the message has no part, and of suppressed deliveries, where the sender is owed a
    bounce."""


class _Recipient(msgspec.Struct, frozen=True):
    address: str
    domain: str
    stanza: DomainSettings
    channel: Channel
    readings: Sequence[Reading]
    """Of every part that the channel renders; none: the message lacks one."""


def stanza_of(settings: Settings, domain: str) -> DomainSettings:
    """The stanza that routes *domain*. Raises MessageError: 550 5.1.2 (RFC 3463: bad destination system)."""
    stanza = settings.domain(domain)
    if stanza is None:
        raise MessageError(550, "5.1.2", f"no route to {domain or 'an address without a domain'}: no stanza names it")
    return stanza


def compose(
    settings: Settings,
    channels: Mapping[str, Channel],
    envelope: Envelope,
    data: bytes,
    parsed: ParsedMessage,
    context: dict[str, str],
    mcmt_reception: McmtReception,
    batch_id: str,
    received: float,
    size: int | None = None,
    suppression: Suppression | None = None,
    schedule: Schedule = NOW,
) -> Composed:
    """Make *data*, received for *envelope* at *received* (seconds since the epoch), into spool content.

    *size*: octets that came, where they were no message and *data* is empty. *suppression*: knows which tokens are
    gone; None: no stanza wants to know.
    """
    begin = max(received, schedule.due)
    # RFC 6758 4: what the envelope says stands above what the header field says.
    asked_for = read_priority(parsed.headers) if envelope.priority is None else envelope.priority
    # Looked at by recipient, and most messages ask for nothing.
    asks = schedule is not NOW or bool(envelope.asked)
    size = len(data) if size is None else size
    if parsed.is_mcmt and mcmt_reception == "reject":
        raise MessageError(550, "5.7.1", "MCMT messages are not taken here (mcmt_reception: reject)")
    apart = parsed.is_mcmt and mcmt_reception == "allow"
    recipients = _read(settings, channels, envelope, data, parsed, context, apart)
    parts: dict[Part, int] = {}
    asked = []
    count = 0
    for recipient in recipients:
        asked.append(of_parts := _targets(recipient, parts))
        for targets in of_parts.values():
            count += len(targets)
    if not count:
        raise MessageError(554, "5.6.1", _what_lacks(recipients, closed=parsed.is_mcmt and not apart))
    if count > settings.max_deliveries_per_message:
        raise _too_many(count, settings.max_deliveries_per_message)
    deliveries: list[NewDelivery] = []
    events: list[Event] = []
    failures: list[Failure] = []
    number = 0
    by_index = tuple(parts)
    for recipient, of_parts in zip(recipients, asked, strict=True):
        before = number
        wanted, warn = _asked_of(recipient, envelope, schedule, begin) if asks else (None, 0.0)
        told: list[Event] = []
        domain, address, lifetime = recipient.domain, recipient.address, recipient.stanza.message_expiration
        priority = WORDS[recipient.stanza.priority] if asked_for is None else asked_for
        gone: Mapping[str, float] = {}
        if suppression is not None and recipient.stanza.suppress_gone_tokens:
            gone = suppression.among(domain, [token for targets in of_parts.values() for token in targets])
        registered = _registered(recipient, parts) if gone else {}
        collapsing = collapse_ids(recipient.readings, parts) if recipient.stanza.replace_queued else {}
        for part, targets in of_parts.items():
            ends, expires = None, min(begin + lifetime, schedule.expires)
            for token, target in targets.items():
                number += 1
                if token in gone:
                    one = Dead(gone[token], min(registered[part], received))
                    told.append(one.event(_event(recipient, envelope, context, number, batch_id, received, token)))
                    if one.suppressed:
                        path = return_path_of(by_index[part].headers, envelope.reverse_path)
                        if path and recipient.stanza.generate_bounces and wants(wanted, FAILED):
                            owed = _owed(recipient, number, received, path, CODE, one.text, token)
                            failures.append(_named(owed, wanted))
                        continue
                # Of one part they all end at once, as a rule.
                if target.expires != ends:
                    ends = target.expires
                    expires = min(_expires(ends, begin, lifetime), schedule.expires)
                collapse = collapse_key(collapsing[part], token) if part in collapsing else b""
                about = number, domain, address, token, part, expires, schedule.due, priority, collapse
                deliveries.append(NewDelivery(*about, asked=wanted, warn=warn))
        failed = number == before
        number += failed
        first, count = f"{batch_id}-{before + 1}", number - before
        events.append(_reception(recipient, envelope, context, first, batch_id, received, size, count))
        events += told
        if failed:
            events.append(_failure(_event(recipient, envelope, context, number, batch_id, received)))
            # A bounce is never owed to the null reverse-path (RFC 5321 4.5.5).
            if envelope.reverse_path and recipient.stanza.generate_bounces and wants(wanted, FAILED):
                text = f"{_NO_PART_STATUS} {NO_PART}"
                owed = _owed(recipient, number, received, envelope.reverse_path, _NO_PART_CODE, text)
                failures.append(_named(owed, wanted))
    if not deliveries:
        by_index = ()  # nobody will send it
    block = parsed.header_block
    if envelope.ret == "FULL" and len(block) < len(data) <= MAX_HEADER_BLOCK:
        # RFC 3461 4.3: a report of a failure is to return all of it; of what is larger its fields (6.2).
        block = data
    message = Message(batch_id, received, envelope, block, context, by_index, size)
    return Composed(message, deliveries, events, failures)


def _asked_of(
    recipient: _Recipient, envelope: Envelope, schedule: Schedule, begin: float
) -> tuple[Asked | None, float]:
    """What is asked of a recipient's deliveries, and when its sender is told that they are late (0: never)."""
    given = envelope.asked.get(recipient.address)
    notify = 0 if given is None else given.notify
    late = 0.0
    # RFC 2852 4: a report of action delayed, where NOTIFY was not given or has DELAY. RFC 3461 4.1: without NOTIFY it
    # is ours to choose; a domain's own time is for those that want to hear of it.
    if schedule.tell_late and (not notify or notify & DELAY):
        late, notify = schedule.tell_late, notify or FAILURE | DELAY
    elif notify & DELAY and recipient.stanza.delay_warning_time:
        late = begin + recipient.stanza.delay_warning_time
    deadline = 0.0 if schedule.expires == math.inf else schedule.expires
    original = "" if given is None else given.original
    if not (notify or original or schedule.due or deadline):
        return None, 0.0
    path = envelope.reverse_path and recipient.stanza.generate_bounces
    return Asked(notify, original, schedule.due, deadline), late if path else 0.0


def _named(failure: Failure, asked: Asked | None) -> Failure:
    return failure if asked is None else msgspec.structs.replace(failure, original=asked.original)


def _read(
    settings: Settings,
    channels: Mapping[str, Channel],
    envelope: Envelope,
    data: bytes,
    parsed: ParsedMessage,
    context: dict[str, str],
    apart: bool,
) -> list[_Recipient]:
    renderings: dict[str, tuple[Part, ...]] = {}
    recipients: list[_Recipient] = []
    first_of: dict[str, _Recipient] = {}
    for address in dict.fromkeys(envelope.forward_paths):
        domain = domain_of(address)
        stanza = stanza_of(settings, domain)
        channel = channels[stanza.delivery_method]
        found = renderings.get(stanza.delivery_method)
        if found is None:
            found = renderings[stanza.delivery_method] = _renderings(channel, data, parsed, apart)
        readings = [channel.read(part, address, context, stanza.options) for part in found]
        for reading in readings:
            if not reading.targets:
                raise MessageError(554, "5.1.1", f"the message has no address for {address}")
        recipient = _Recipient(address, domain, stanza, channel, readings)
        recipients.append(recipient)
        # At once, or a thousand recipients would have ten thousand tokens each read before the refusal.
        first = first_of.setdefault(stanza.delivery_method, recipient)
        if first is not recipient:
            _refuse_in_a_crowd(first)
            _refuse_in_a_crowd(recipient)
    return recipients


def _renderings(channel: Channel, data: bytes, parsed: ParsedMessage, apart: bool) -> tuple[Part, ...]:
    if channel.MEDIA_TYPES:
        if parsed.is_mcmt and not apart:
            return ()
        return tuple([part for part in parsed.parts if part.media_type in channel.MEDIA_TYPES])
    mails = [part for part in parsed.parts if part.media_type == WHOLE] if apart else []
    if parsed.parts and not (mails or data):
        return ()  # it came as parts, so there is no whole of which they were taken
    return (mails[0] if mails else Part(WHOLE, (), data),)


def _what_lacks(recipients: Sequence[_Recipient], closed: bool) -> str:
    recipient = recipients[0]
    if closed:
        return (
            f"{recipient.domain} needs a part of the MCMT message, and this listener takes none apart "
            "(mcmt_reception: passthru; allow is needed)"
        )
    wanted = " or ".join(sorted(recipient.channel.MEDIA_TYPES)) or WHOLE
    return f"the message has no {wanted} part, which {recipient.domain} needs"


def _refuse_in_a_crowd(recipient: _Recipient) -> None:
    """Refuse what cannot be for one of several recipients of a channel.

    Recipients times tokens would multiply a message: n recipients with one token, or one recipient with T tokens.
    """
    for reading in recipient.readings:
        tokens = len({target.token for target in reading.targets})
        if tokens > 1:
            text = (
                f"several recipients and {tokens} tokens in one part: "
                "send several recipients with one token, or one recipient with several tokens"
            )
            raise MessageError(554, "5.6.0", text)
        if reading.sole:
            raise MessageError(554, "5.6.0", "an id given for one delivery, and several recipients: leave the id out")


def _targets(recipient: _Recipient, parts: dict[Part, int]) -> dict[int, dict[str, Target]]:
    """The deliveries to make, by part and token: equal ones are one. Gives each part that is new its index."""
    asked: dict[int, dict[str, Target]] = {}
    for reading in recipient.readings:
        index = parts.setdefault(reading.part, len(parts))
        targets = asked.setdefault(index, {})
        for target in reading.targets:
            targets[target.token] = target
    return asked


def _registered(recipient: _Recipient, parts: Mapping[Part, int]) -> Mapping[int, float]:
    """By the index of a part: when its tokens were registered last, as the sender says."""
    said: dict[int, float] = {}
    for reading in recipient.readings:
        index = parts[reading.part]
        said[index] = max(said.get(index, 0.0), reading.registered)
    return said


def _too_many(count: int, limit: int) -> MessageError:
    text = f"the message asks for {count} deliveries, {limit} are allowed (max_deliveries_per_message); divide it"
    return MessageError(554, "5.5.3", text)


def _expires(given: float | None, begin: float, lifetime: float) -> float:
    end = begin + lifetime
    return end if given is None else min(end, given or begin + NOW_OR_NEVER)


def _reception(
    recipient: _Recipient,
    envelope: Envelope,
    context: dict[str, str],
    first: str,
    batch_id: str,
    received: float,
    size: int,
    count: int,
) -> Event:
    return Event(
        kind=Kind.RECEPTION,
        time=received,
        id=first,
        batch_id=batch_id,
        channel=recipient.stanza.delivery_method,
        domain=recipient.domain,
        sender=envelope.reverse_path,
        recipient=recipient.address,
        size=size,
        remote_address=envelope.peer,
        deliveries=count,
        connection_id=envelope.connection_id,
        protocol=envelope.protocol,
        context=context or None,
        user=envelope.user,
    )


def _event(
    recipient: _Recipient,
    envelope: Envelope,
    context: dict[str, str],
    number: int,
    batch_id: str,
    received: float,
    token: str = "",
) -> Event:
    """What is known of a delivery, or of a recipient without one, that ends as it comes in."""
    return Event(
        kind=Kind.PERMANENT,
        time=received,
        id=f"{batch_id}-{number}",
        batch_id=batch_id,
        channel=recipient.stanza.delivery_method,
        domain=recipient.domain,
        sender=envelope.reverse_path,
        recipient=recipient.address,
        token=token,
        protocol=envelope.protocol,
        context=context or None,
    )


def _failure(event: Event) -> Event:
    return msgspec.structs.replace(event, code=_NO_PART_CODE, text=f"{_NO_PART_STATUS} {NO_PART}")


def _owed(
    recipient: _Recipient, number: int, received: float, return_path: str, code: str, text: str, token: str = ""
) -> Failure:
    return Failure(
        number=number,
        recipient=recipient.address,
        token=token,
        channel=recipient.stanza.delivery_method,
        code=code,
        text=text,
        status=text.partition(" ")[0],
        remote_id="",
        remote_address="",
        time=received,
        return_path=return_path,
    )
