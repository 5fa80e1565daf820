"""Which worker keeps what: each message is in one shard, whatever becomes of the owner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcmt.config.settings import DomainSettings
from mcmt.errors import BusLost, OutboxAway, SpoolError, SpoolFull
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Envelope, Message, NewDelivery
from mcmt.message.notification import SUCCESS, Asked
from mcmt.workers.owners import HandingOver, Owners
from mcmt.workers.words import Accept, HandOver, Nothing
from tests.unit.control.stand_ins import settings

NARROW = ("one.example.com", "two.example.com", "three.example.com", "four.example.com")

REPLACING = ("scores.example.com", "news.example.com")


def make_owners(workers: int = 2) -> Owners:
    stanzas = {
        name: DomainSettings(
            name=name,
            delivery_method="apn",
            routes=(),
            options=None,
            max_outbound_connections=1 if name in NARROW else 8,
            replace_queued=name in REPLACING,
        )
        for name in (*NARROW, *REPLACING, "wide.example.com", "*")
    }
    return Owners(msgspec.structs.replace(settings(Path("/nowhere/control.sock")), workers=workers, domains=stanzas))


class Shard:
    """A worker's own shard."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        self.kept.append(message.batch_id)

    async def record(self, events: Sequence[Event]) -> None:
        self.kept.append("events")


class Supervisor:
    """The bus to it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[HandOver] = []

    async def call(self, request: HandOver, answer: type) -> Any:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return Nothing()


def message_for(*domains: str) -> tuple[Message, list[NewDelivery]]:
    asked = Asked(SUCCESS, "rfc822;u@b.c", 2.0, 8.0)
    envelope = Envelope("a@b.c", (), ret="FULL", envid="x", asked={"u@b.c": asked})
    message = Message("0123456789abcdef01234567", 1.0, envelope, b"", {}, (), 10)
    about = "t", 0, 9.0
    return message, [
        NewDelivery(n, domain, f"u@{domain}", *about, asked=asked, warn=3.0) for n, domain in enumerate(domains, 1)
    ]


def test_a_stanza_that_may_have_as_many_connections_as_there_are_workers_has_no_owner() -> None:
    owners = make_owners()
    assert owners.owner_of(["wide.example.com"]) is None
    assert owners.owner_of(["any.other.example.com"]) is None
    assert owners.owner_of(["no.stanza"]) is None
    assert not make_owners(workers=1)


def test_owners_are_spread_and_the_same_in_every_process() -> None:
    owner = {name: make_owners().owner_of([name]) for name in NARROW}
    assert set(owner.values()) == {0, 1}
    assert owner == {name: make_owners().owner_of([name]) for name in NARROW}


def test_a_message_for_several_owners_stays_where_it_came_in() -> None:
    owners = make_owners()
    first = [name for name in NARROW if owners.owner_of([name]) == 0]
    second = [name for name in NARROW if owners.owner_of([name]) == 1]
    assert owners.owner_of([first[0], second[0]]) is None
    assert owners.owner_of([second[0], "wide.example.com"]) == 1


def test_a_stanza_that_replaces_what_is_queued_has_an_owner_which_decides_before_others() -> None:
    """What a message replaces is looked for in the shard that keeps it: so one shard keeps all of a domain."""
    owners = make_owners()
    owner = owners.owner_of([REPLACING[0]])
    assert owner is not None
    for name in NARROW:
        assert owners.owner_of([name, REPLACING[0]]) == owner


@pytest.fixture
def others() -> str:
    """A domain that worker 1 owns."""
    owners = make_owners()
    return next(name for name in NARROW if owners.owner_of([name]) == 1)


async def test_the_owner_keeps_what_another_worker_received(others: str) -> None:
    shard, supervisor = Shard(), Supervisor()
    keeper = HandingOver(shard, 0, make_owners(), supervisor)  # type: ignore[arg-type] # the one method that is used
    message, deliveries = message_for(others)
    await keeper.accept(message, deliveries, [])
    assert shard.kept == []
    (asked,) = supervisor.asked
    assert asked.owner == 1
    accept = msgspec.msgpack.decode(asked.accept, type=Accept)
    assert (accept.message, list(accept.deliveries)) == (message, deliveries)
    await HandingOver(shard, 1, make_owners(), supervisor).accept(message, deliveries, [])  # type: ignore[arg-type]
    assert shard.kept == [message.batch_id], "the owner's own"


async def test_an_owner_that_was_not_asked_leaves_the_message_here(others: str) -> None:
    shard = Shard()
    keeper = HandingOver(shard, 0, make_owners(), Supervisor(OutboxAway("being started")))  # type: ignore[arg-type]
    await keeper.accept(*message_for(others), [])
    assert len(shard.kept) == 1


@pytest.mark.parametrize("error", [BusLost("it ended"), SpoolFull("no room")])
async def test_where_nobody_knows_or_the_owner_refuses_the_client_is_told_to_come_again(
    others: str, error: Exception
) -> None:
    """Kept here too, a message that the owner may have kept would be sent twice under one id."""
    shard = Shard()
    keeper = HandingOver(shard, 0, make_owners(), Supervisor(error))  # type: ignore[arg-type]
    with pytest.raises(SpoolError):
        await keeper.accept(*message_for(others), [])
    assert shard.kept == []
