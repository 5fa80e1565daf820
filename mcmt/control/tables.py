"""What the engine answers of its tables: the device tokens that are gone, and the registrations.

Rules: a table is read and changed by the page, on a thread: nobody waits for a connection or for the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec

from mcmt.clock import Clock
from mcmt.control.protocol import Counted, ForgetTokens, LearnTokens, Tokens
from mcmt.control.registrations import AddRegistration, ListRegistrations, RemoveRegistrations
from mcmt.errors import ControlError, SpoolError
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.spool.port import GoneToken, TokenTable
from mcmt.spool.registration import DEVICES, Registration, Registrations

TOKENS = 1000
"""Gone tokens listed, or forgotten, at a time; and registrations."""


def of_tokens(
    table: TokenTable, request: Tokens | ForgetTokens | LearnTokens
) -> AsyncIterator[GoneToken] | AsyncIterator[Counted]:
    """The items that answer *request*."""
    match request:
        case Tokens():
            return _tokens(table, request)
        case ForgetTokens():
            return _forget(table, request)
        case LearnTokens():
            return _learn(table, request)


def of_registrations(
    table: Registrations | None, request: ListRegistrations | AddRegistration | RemoveRegistrations, clock: Clock
) -> AsyncIterator[Registration] | AsyncIterator[Counted]:
    """The items that answer *request*. Iterating raises ControlError: there are no registrations."""
    match request:
        case ListRegistrations():
            return _registrations(_there(table), request)
        case AddRegistration():
            return _add(_there(table), request, clock)
        case RemoveRegistrations():
            return _remove(_there(table), request)


async def counted(table: Registrations | None, attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    """The components, each with how many devices are registered with it, where that can be told."""
    if table is None or not attachments:
        return tuple(attachments)
    try:
        counts = await asyncio.to_thread(table.counts)
    except SpoolError:  # whoever registers is told; how the components stand is to be seen all the same
        return tuple(attachments)
    return tuple(msgspec.structs.replace(one, registrations=counts.get(one.jid, 0)) for one in attachments)


def _there(table: Registrations | None) -> Registrations:
    if table is None:
        raise ControlError("there are no registrations: the engine has begun without xmpp_component")
    return table


async def _tokens(table: TokenTable, request: Tokens) -> AsyncIterator[GoneToken]:
    after, left = request.after, request.limit
    while left is None or left > 0:
        wanted = TOKENS if left is None else min(TOKENS, left)
        page = await asyncio.to_thread(table.page, request.domain, after, wanted)
        for token in page:
            yield token
        if len(page) < wanted:
            return
        after, left = page[-1].number, None if left is None else left - wanted


async def _forget(table: TokenTable, request: ForgetTokens) -> AsyncIterator[Counted]:
    if request.tokens:
        yield Counted(count=await asyncio.to_thread(table.forget, request.domain, request.tokens))
        return
    count = 0
    # By the page: whoever looks a token up, or writes one, does not wait for all of it.
    while page := await asyncio.to_thread(table.forget_page, request.domain, request.learned_before, TOKENS):
        count += page
    yield Counted(count=count)


async def _learn(table: TokenTable, request: LearnTokens) -> AsyncIterator[Counted]:
    yield Counted(count=await asyncio.to_thread(table.learn, request.tokens))


async def _registrations(table: Registrations, request: ListRegistrations) -> AsyncIterator[Registration]:
    after = 0
    while page := await asyncio.to_thread(table.page, request.service, after, TOKENS):
        for one in page:
            # Whoever lists them needs no secret, and a terminal keeps what it has shown.
            yield msgspec.structs.replace(one, secret="")
        after = page[-1].number


async def _add(table: Registrations, request: AddRegistration, clock: Clock) -> AsyncIterator[Registration]:
    asked = msgspec.structs.replace(
        request.registration,
        node=request.registration.node or secrets.token_hex(12),
        secret=request.registration.secret or secrets.token_hex(24),
        registered=clock.time(),
    )
    kept = await asyncio.to_thread(table.put, asked)
    if kept is None:
        raise ControlError(f"{asked.owner} has {DEVICES} registrations already, or the node is another's")
    yield kept


async def _remove(table: Registrations, request: RemoveRegistrations) -> AsyncIterator[Counted]:
    remove = partial(table.remove, request.service, request.node, request.owner, request.device)
    yield Counted(count=await asyncio.to_thread(remove))
