"""A transaction's verdicts, for every reply at every stage, pipelined and not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.smtp.replies import ReplyReader
from channels.smtp.transaction import Transaction
from channels.smtp.verdicts import Stage
from mcmt.errors import ProtocolError
from mcmt.message.status import Disposition

D = Disposition
MAIL = b"MAIL FROM:<a@example.com>\r\n"
OK = "250 ok"
GO = "354 go on"


class Run:
    """A transaction with a server whose replies are given; it answers each command once."""

    def __init__(self, replies: list[str], *, recipients: int = 2, pipelining: bool = True) -> None:
        self.transaction = Transaction(MAIL, [f"u{n}@example.org" for n in range(recipients)], pipelining=pipelining)
        self.sent = [self.transaction.begin()]
        for reply in replies:
            assert not self.transaction.done, f"{reply} is not waited for"
            reader = ReplyReader()
            reader.feed(f"{reply}\r\n".encode())
            got = reader.next()
            assert got is not None
            if command := self.transaction.take(got):
                self.sent.append(command)
            if self.transaction.wants_content:
                self.sent.append(b"CONTENT")
                self.transaction.content_sent()

    @property
    def dispositions(self) -> list[Disposition | None]:
        return [verdict and verdict.disposition for verdict in self.transaction.verdicts]

    @property
    def commands(self) -> list[str]:
        return re.findall(r"MAIL|RCPT|DATA|CONTENT|\.", re.sub(r"<.*?>", "", b"".join(self.sent).decode()))


def test_pipelined_the_envelope_is_one_write() -> None:
    run = Run([OK, OK, OK, GO, "250 2.0.0 queued as 1"])
    assert run.sent[0].count(b"\r\n") == 4
    assert run.sent[1:] == [b"CONTENT"]
    assert run.dispositions == [D.DELIVERED, D.DELIVERED]
    assert (run.transaction.done, run.transaction.leave, run.transaction.reset) == (True, False, False)
    assert run.transaction.verdicts[0] == (D.DELIVERED, "250", "2.0.0 queued as 1")


def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    run = Run([OK, OK, OK, GO, OK], pipelining=False)
    assert run.sent == [
        MAIL,
        b"RCPT TO:<u0@example.org>\r\n",
        b"RCPT TO:<u1@example.org>\r\n",
        b"DATA\r\n",
        b"CONTENT",
    ]
    assert run.dispositions == [D.DELIVERED, D.DELIVERED]


@pytest.mark.parametrize("pipelining", [True, False])
def test_every_recipient_has_its_own_result(pipelining: bool) -> None:
    replies = [OK, "550 5.1.1 no", OK, "450 4.2.0 later", "550 5.7.1 no", "252 perhaps", GO, OK]
    run = Run(replies, recipients=5, pipelining=pipelining)
    assert run.dispositions == [D.RECIPIENT_GONE, D.DELIVERED, D.TRANSIENT, D.PERMANENT, D.DELIVERED]


def test_nobody_accepted_and_354_all_the_same_gets_a_lone_dot() -> None:
    run = Run([OK, "550 no", "550 no", GO, "554 no recipients"])
    assert run.commands == ["MAIL", "RCPT", "RCPT", "DATA", "."]
    assert run.dispositions == [D.PERMANENT, D.PERMANENT]
    assert not run.transaction.leave


@pytest.mark.parametrize(
    ("pipelining", "replies"),
    [(True, [OK, "550 no", "450 no", "503 no recipients"]), (False, [OK, "550 no", "450 no"])],
)
def test_nobody_accepted_is_followed_by_rset(pipelining: bool, replies: list[str]) -> None:
    run = Run(replies, pipelining=pipelining)
    assert run.dispositions == [D.PERMANENT, D.TRANSIENT]
    assert (run.transaction.done, run.transaction.leave, run.transaction.reset) == (True, False, True)


@pytest.mark.parametrize(
    ("pipelining", "replies"),
    [(True, ["550 5.1.8 no", "503 MAIL?", "503 MAIL?", "503 RCPT?"]), (False, ["550 5.1.8 no"])],
)
def test_a_refused_sender_is_everyones_answer(pipelining: bool, replies: list[str]) -> None:
    run = Run(replies, pipelining=pipelining)
    assert [v and v.text for v in run.transaction.verdicts] == ["5.1.8 no", "5.1.8 no"]
    assert run.dispositions == [D.PERMANENT, D.PERMANENT]
    assert (run.transaction.done, run.transaction.leave, run.transaction.reset) == (True, False, False)


REFUSALS = [
    # stage, reply, disposition of those it is about, whether the session ends
    ("MAIL", "450 4.7.1 slow down", D.TRANSIENT, False),
    ("MAIL", "552 5.3.4 too big", D.PERMANENT, False),
    ("MAIL", "550 5.1.1 of a sender says nothing of a recipient", D.PERMANENT, False),
    ("MAIL", "530 5.7.0 must issue STARTTLS", D.ROUTE_FAULT, True),
    ("MAIL", "530 5.7.0 authentication required", D.ROUTE_FAULT, True),
    ("MAIL", "550 5.7.25 no PTR", D.ROUTE_FAULT, True),
    ("MAIL", "421 4.3.2 closing", D.REFUSED, True),
    ("MAIL", "503 5.5.1 out of step", D.TRANSIENT, True),
    ("DATA", "451 4.3.0 later", D.TRANSIENT, False),
    ("DATA", "554 5.7.1 no", D.PERMANENT, False),
    ("DATA", "421 4.3.2 closing", D.TRANSIENT, True),
    ("DOT", "451 4.7.1 greylisted", D.TRANSIENT, False),
    ("DOT", "550 5.7.1 spam", D.PERMANENT, False),
    ("DOT", "421 4.3.2 closing", D.TRANSIENT, True),
    ("DOT", "550 5.1.1 not about a mailbox any more", D.PERMANENT, False),
]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("stage", "reply", "disposition", "leave"), REFUSALS, ids=lambda value: str(value)[:20])
def test_what_a_refusal_means(stage: str, reply: str, disposition: Disposition, leave: bool, pipelining: bool) -> None:
    before = {"MAIL": [], "DATA": [OK, OK, OK], "DOT": [OK, OK, OK, GO]}[stage]
    after = ["503 x", "503 x", "503 x"] if stage == "MAIL" and pipelining and not leave else []
    run = Run([*before, reply, *after], pipelining=pipelining)
    assert run.dispositions == [disposition, disposition]
    assert (run.transaction.done, run.transaction.leave) == (True, leave)


RECIPIENT = [
    ("550 5.1.1 no such user", D.RECIPIENT_GONE),
    ("550 5.1.6 moved", D.RECIPIENT_GONE),
    ("556 5.1.10 null MX", D.RECIPIENT_GONE),
    ("550 no such user", D.PERMANENT),
    ("551 not local", D.PERMANENT),
    ("553 5.1.3 bad address", D.PERMANENT),
    ("552 5.2.2 mailbox full", D.PERMANENT),
    ("452 4.2.2 mailbox full", D.TRANSIENT),
    ("450 4.1.1 unverified", D.TRANSIENT),
    ("452 4.5.3 too many", D.REFUSED),
    ("452 too many", D.REFUSED),
    ("552 too many, as RFC 821 had it", D.REFUSED),
]


@pytest.mark.parametrize(("reply", "disposition"), RECIPIENT)
def test_what_a_refused_recipient_is(reply: str, disposition: Disposition) -> None:
    run = Run([OK, OK, reply, GO, OK])
    assert run.dispositions == [D.DELIVERED, disposition]


def test_too_many_recipients_are_for_the_next_transaction() -> None:
    run = Run([OK, OK, OK, "452 4.5.3 no more", "452 4.5.3 no more", GO, OK], recipients=4)
    assert run.dispositions == [D.DELIVERED, D.DELIVERED, D.REFUSED, D.REFUSED]
    assert run.transaction.full_at == 2


def test_too_many_for_the_first_recipient_is_an_answer_like_any() -> None:
    """Else it would go at once to the next transaction, for ever."""
    run = Run([OK, "452 4.5.3 no more", "452 4.5.3 no more", "503 nobody"])
    assert run.dispositions == [D.TRANSIENT, D.TRANSIENT]


def test_421_to_a_recipient_is_an_attempt_for_that_one_alone() -> None:
    run = Run([OK, "550 5.1.1 no", OK, "421 4.7.0 too many errors"], recipients=4)
    assert run.dispositions == [D.RECIPIENT_GONE, D.REFUSED, D.TRANSIENT, D.REFUSED]
    assert run.transaction.leave


@pytest.mark.parametrize(
    ("replies", "disposition"),
    [
        ([], D.REFUSED),
        ([OK], D.REFUSED),
        ([OK, OK], D.REFUSED),
        ([OK, OK, OK], D.REFUSED),
        ([OK, OK, OK, GO], D.AMBIGUOUS),
    ],
    ids=["MAIL", "first RCPT", "second RCPT", "DATA", "DOT"],
)
def test_a_lost_connection_is_judged_by_how_far_it_had_come(replies: list[str], disposition: Disposition) -> None:
    run = Run(replies)
    run.transaction.lost("gone")
    assert run.dispositions == [disposition, disposition]
    assert run.transaction.verdicts[1] is not None
    assert run.transaction.verdicts[1][1:] == ("451", "4.4.2 [internal] gone")


def test_who_was_refused_before_the_connection_was_lost_keeps_that() -> None:
    run = Run([OK, "550 5.1.1 no", OK, GO])
    run.transaction.lost("gone")
    assert run.dispositions == [D.RECIPIENT_GONE, D.AMBIGUOUS]


def test_lost_in_the_middle_of_the_content_nothing_was_accepted() -> None:
    run = Run([OK, OK, OK])
    run.transaction.stage = Stage.BODY
    run.transaction.lost("gone")
    assert run.dispositions == [D.TRANSIENT, D.TRANSIENT]


@pytest.mark.parametrize("replies", [[GO], [OK, GO], [OK, OK, OK, OK], [OK, OK, OK, GO, GO]])
def test_a_reply_that_has_no_place_is_a_protocol_error(replies: list[str]) -> None:
    with pytest.raises(ProtocolError):
        Run(replies)


codes = st.sampled_from(["200", "250", "354", "421", "450", "452 4.5.3", "503", "530", "550 5.1.1", "552", "554"])


@given(st.lists(codes, max_size=12), st.integers(1, 4), st.booleans())
def test_whatever_is_answered_everyone_has_one_verdict_at_the_end(
    replies: list[str], recipients: int, pipelining: bool
) -> None:
    """And who is delivered was accepted, and the last reply was positive."""
    transaction = Transaction(MAIL, [f"u{n}" for n in range(recipients)], pipelining=pipelining)
    transaction.begin()
    reply = "none"
    for reply in replies:
        reader = ReplyReader()
        reader.feed(f"{reply}\r\n".encode())
        got = reader.next()
        assert got is not None
        try:
            transaction.take(got)
        except ProtocolError:
            break
        if transaction.wants_content:
            transaction.content_sent()
        if transaction.done:
            break
    if not transaction.done:
        transaction.lost("gone")
    assert all(transaction.verdicts)
    delivered = [v for v in transaction.verdicts if v and v.disposition is D.DELIVERED]
    assert not delivered or reply in ("200", "250")
