"""What MAIL and RCPT may ask for, value by value: each RFC's grammar, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import MessageError
from mcmt.intake.extensions import (
    MailRequests,
    RcptRequests,
    read_mail,
    read_rcpt,
)
from mcmt.intake.path import read_parameters
from mcmt.message.event import Kind
from mcmt.message.notification import DELAY, FAILURE, NEVER, SUCCESS, Asked
from mcmt.message.priority import BULK, HIGH, NORMAL
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY = 86400.0
NONE: frozenset[str] = frozenset()


def mail(text: str, discarded: frozenset[str] = NONE, longest: float = DAY) -> MailRequests:
    parameters = read_parameters(text)
    found = read_mail(parameters, discarded, longest, NOW)
    if parameters:
        raise MessageError(555, "5.5.4", "not known")
    return found


def rcpt(text: str) -> RcptRequests:
    parameters = read_parameters(text)
    found = read_rcpt(parameters, NONE)
    assert parameters == {}
    return found


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        # RFC 3461 4.3, 4.4
        ("RET=FULL", {"ret": "FULL"}),
        ("ret=hdrs ENVID=QQ314159", {"ret": "HDRS", "envid": "QQ314159"}),
        ("ENVID=a+2Bb+3dc+20d", {"envid": "a+b=c d"}),
        ("ENVID=" + "x" * 100, {"envid": "x" * 100}),
        # RFC 4865 3
        ("HOLDFOR=86400", {"due": NOW + 86400, "release": "for;86400"}),
        ("HOLDUNTIL=2027-01-15T09:00:00Z", {"due": NOW + 3600, "release": "until;2027-01-15T09:00:00Z"}),
        (
            "HOLDUNTIL=2027-01-15t10:00:00.5+01:00",
            {"due": NOW + 3600.5, "release": "until;2027-01-15t10:00:00.5+01:00"},
        ),
        # RFC 2852 4
        ("BY=120;R", {"deadline": NOW + 120}),
        ("BY=+1;r", {"deadline": NOW + 1}),
        ("BY=120;N", {"tell_late": NOW + 120}),
        ("BY=0;N", {}),
        ("BY=-5;NT", {"trace": True}),
        ("BY=999999999;RT", {"deadline": NOW + 999999999, "trace": True}),
        ("HOLDFOR=60 BY=61;R", {"due": NOW + 60, "deadline": NOW + 61, "release": "for;60"}),
        # RFC 6710 4
        ("MT-PRIORITY=9", {"priority": HIGH}),
        ("MT-PRIORITY=0", {"priority": NORMAL}),
        ("MT-PRIORITY=-4", {"priority": BULK}),
    ],
)
def test_mail_asks_for(text: str, fields: dict[str, Any]) -> None:
    assert mail(text) == MailRequests(**fields)


@pytest.mark.parametrize(
    "text",
    [
        "RET",
        "RET=BODY",
        "RET=FULL RET=HDRS",
        "ENVID",
        "ENVID=a+",
        "ENVID=a+0D+0Ab",
        "ENVID=a+00",
        "ENVID=a+7F",
        "ENVID=a+C3+A9",
        "ENVID=é",
        "ENVID=" + "x" * 101,
        "HOLDFOR",
        "HOLDFOR=0",
        "HOLDFOR=01",
        "HOLDFOR=-1",
        "HOLDFOR=1.5",
        "HOLDFOR=86401",
        "HOLDFOR=9999999999",
        "HOLDFOR=60 HOLDUNTIL=2027-01-15T09:00:00Z",
        "HOLDUNTIL",
        "HOLDUNTIL=2027-01-15T07:59:59Z",
        "HOLDUNTIL=2027-01-15T09:00:00",
        "HOLDUNTIL=2027-01-15",
        "HOLDUNTIL=2027-02-30T09:00:00Z",
        "HOLDUNTIL=2027-01-16T08:00:01Z",
        "HOLDUNTIL=0001-01-01T00:00:00+23:59",
        "BY",
        "BY=R",
        "BY=;R",
        "BY=0;R",
        "BY=-1;R",
        "BY=1234567890;R",
        "BY=60;X",
        "BY=60",
        "BY=60;RN",
        "BY=60;RTT",
        "BY=60;R BY=61;R",
        "BY=6²;R",
        "HOLDFOR=60 BY=60;R",
        "HOLDFOR=60 BY=60;N",
        "MT-PRIORITY",
        "MT-PRIORITY=10",
        "MT-PRIORITY=-0",
        "MT-PRIORITY=+3",
        "MT-PRIORITY=high",
    ],
)
def test_mail_is_told_of_a_value_that_is_none(text: str) -> None:
    with pytest.raises(MessageError) as error:
        mail(text)
    # RFC 6710 4.1 has another code for its own.
    enhanced = "5.5.2" if text.startswith("MT-PRIORITY") else "5.5.4"
    assert (error.value.code, error.value.enhanced) == (501, enhanced)


@pytest.mark.parametrize(
    ("discarded", "text"),
    [
        ("DSN", "RET=FULL"),
        ("DSN", "ENVID=x"),
        ("FUTURERELEASE", "HOLDFOR=60"),
        ("DELIVERBY", "BY=60;R"),
        ("MT-PRIORITY", "MT-PRIORITY=3"),
    ],
)
def test_what_is_discarded_is_not_known(discarded: str, text: str) -> None:
    with pytest.raises(MessageError) as error:
        mail(text, frozenset({discarded}))
    assert (error.value.code, error.value.enhanced) == (555, "5.5.4")


def test_without_a_longest_time_no_message_is_held() -> None:
    with pytest.raises(MessageError) as error:
        mail("HOLDFOR=60", longest=0.0)
    assert error.value.code == 555


@pytest.mark.parametrize(
    ("text", "notify", "original"),
    [
        ("NOTIFY=NEVER", NEVER, ""),
        ("NOTIFY=success,Failure,DELAY", SUCCESS | FAILURE | DELAY, ""),
        ("NOTIFY=DELAY", DELAY, ""),
        ("ORCPT=rfc822;Bob@Example.COM", 0, "rfc822;Bob@Example.COM"),
        ("NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb+40c", SUCCESS, "rfc822;a+b@c"),
        ("ORCPT=utf-8;gr\\x{FC}n@example.com", 0, "utf-8;gr\\x{FC}n@example.com"),
        ("ORCPT=utf-8;grün@example.com", 0, "utf-8;gr\\x{FC}n@example.com"),
        ("ORCPT=x400;" + "y" * 495, 0, "x400;" + "y" * 495),
    ],
)
def test_rcpt_asks_for(text: str, notify: int, original: str) -> None:
    assert rcpt(text) == RcptRequests(notify, original)


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=ALWAYS",
        "NOTIFY=NEVER,FAILURE",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=SUCCESS,",
        "NOTIFY=SUCCESS NOTIFY=DELAY",
        "ORCPT=bob@example.com",
        "ORCPT=rfc822;",
        "ORCPT=;bob",
        "ORCPT=rf c822;bob",
        "ORCPT=rfc822;a=b",
        "ORCPT=rfc822;a+0Ab",
        "ORCPT=rfc822;grün@example.com",
        "ORCPT=x400;" + "y" * 496,
        "ORCPT=utf-8;" + "\u00fc" * 100,  # as other servers are told it
        "ORCPT=(rfc822);bob",
    ],
)
def test_rcpt_is_told_of_a_value_that_is_none(text: str) -> None:
    with pytest.raises(MessageError) as error:
        rcpt(text)
    assert (error.value.code, error.value.enhanced) == (501, "5.5.4")


@given(st.text(max_size=20) | st.binary(max_size=20).map(lambda octets: "".join([f"+{octet:02X}" for octet in octets])))
def test_whatever_is_decoded_is_printable(text: str) -> None:
    try:
        envid = read_mail({"ENVID": text}, frozenset(), 0.0, NOW).envid
    except MessageError:
        return
    assert envid
    assert envid.isascii()
    assert envid.isprintable()


async def test_what_a_session_asks_for_is_kept_with_the_message(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    for command in (
        "MAIL FROM:<app@example.com> RET=FULL ENVID=QQ+2B1 HOLDFOR=600 BY=900;RT MT-PRIORITY=-3",
        "RCPT TO:<a@apn.example.com> NOTIFY=NEVER",
        "RCPT TO:<b@apn.example.com> NOTIFY=DELAY,FAILURE ORCPT=rfc822;B@example.com",
        "RCPT TO:<c@apn.example.com>",
        "RCPT TO:<c@apn.example.com> NOTIFY=DELAY",
    ):
        assert (await client.ask(command)).startswith("250 2.1.")
    assert (await client.ask("DATA")).startswith("354")
    client.send(MCMT + b".\r\n")
    assert (await client.reply()).startswith("250 2.0.0")
    ((message, deliveries, events),) = server.spool.accepted
    envelope, received = message.envelope, message.received
    assert (envelope.ret, envelope.envid, envelope.priority) == ("FULL", "QQ+1", BULK)
    assert (envelope.release, round(envelope.deliver_by - received)) == ("for;600", 900)
    assert message.header_block == MCMT
    assert [one.priority for one in deliveries] == [BULK] * 3
    asked = [one.asked for one in deliveries]
    assert all(one is not None for one in asked)
    assert [one.notify for one in asked if one] == [
        NEVER,
        DELAY | FAILURE | SUCCESS,
        DELAY | SUCCESS,
    ]
    second = asked[1]
    assert second is not None
    assert second.original == "rfc822;B@example.com"
    assert [round(one.due - received) for one in deliveries] == [600] * 3
    assert [round(one.expires - received) for one in deliveries] == [900] * 3
    assert (round(second.begin - received), round(second.deadline - received)) == (600, 900)
    # Of the domain's delay_warning_time, from when it was put off to.
    assert [round(one.warn - received) if one.warn else 0 for one in deliveries] == [0, 600 + 14400, 600 + 14400]
    assert [one.kind for one in events] == [Kind.RECEPTION] * 3

    # The next transaction has asked for nothing.
    for command in ("MAIL FROM:<app@example.com>", "RCPT TO:<a@apn.example.com>", "DATA"):
        await client.ask(command)
    client.send(MCMT + b".\r\n")
    await client.reply()
    message, deliveries, _ = server.spool.accepted[1]
    assert (message.envelope.ret, message.envelope.asked, deliveries[0].asked) == ("", {}, None)
    assert message.header_block != MCMT


async def test_what_was_asked_of_a_refused_sender_or_before_rset_is_forgotten(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<app@example.com> ENVID=x SIZE=99999999999")).startswith("552")
    await client.ask("MAIL FROM:<app@example.com> ENVID=y")
    await client.ask("RCPT TO:<a@apn.example.com> NOTIFY=NEVER")
    await client.ask("RSET")
    for command in ("MAIL FROM:<app@example.com>", "RCPT TO:<a@apn.example.com>", "DATA"):
        await client.ask(command)
    client.send(MCMT + b".\r\n")
    await client.reply()
    ((message, (delivery,), _),) = server.spool.accepted
    assert (message.envelope.envid, message.envelope.asked, delivery.asked) == ("", {}, None)


async def test_by_with_n_tells_those_that_did_not_say_that_they_do_not_want_to_hear(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    for command in (
        "MAIL FROM:<app@example.com> BY=60;N",
        "RCPT TO:<a@apn.example.com>",
        "RCPT TO:<b@apn.example.com> NOTIFY=FAILURE",
        "RCPT TO:<c@apn.example.com> NOTIFY=DELAY",
        "DATA",
    ):
        await client.ask(command)
    client.send(MCMT + b".\r\n")
    await client.reply()
    ((message, deliveries, _),) = server.spool.accepted
    assert [round(one.warn - message.received) if one.warn else 0 for one in deliveries] == [60, 0, 60]
    assert deliveries[0].asked == Asked(FAILURE | DELAY)
    assert deliveries[0].expires == message.received + 86400


async def test_the_longest_lines_fit(serve: Serve) -> None:
    client = await (await serve()).hello()
    sender = f"{'a' * 64}@{'b' * 180}.example"
    every = f"SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID={'+41' * 33} HOLDFOR=999 BY=999999999;RT MT-PRIORITY=-9"
    assert (await client.ask(f"MAIL FROM:<{sender}> {every}")).startswith("250")
    recipient = f"{'0f' * 100}@apn.example.com"
    orcpt = "rfc822;" + "+41" * 164
    assert (await client.ask(f"RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={orcpt}")).startswith("250")


async def test_a_name_of_the_recipient_that_is_not_ascii_needs_smtputf8(serve: Serve) -> None:
    """RFC 6533 3: utf-8-addr-unitext."""
    client = await (await serve()).hello()
    command = "RCPT TO:<a@apn.example.com> ORCPT=utf-8;grün@example.com"
    await client.ask("MAIL FROM:<a@b>")
    assert (await client.ask(command)).startswith("553 5.6.7")
    await client.ask("RSET")
    await client.ask("MAIL FROM:<a@b> SMTPUTF8")
    assert (await client.ask(command)).startswith("250 2.1.5")


async def test_ehlo_announces_the_extensions_and_their_limits(serve: Serve) -> None:
    client = await (await serve(max_future_release=3600.0)).connect()
    lines = [line[4:] for line in (await client.ask("EHLO x")).splitlines()]
    assert {"DSN", "DELIVERBY 1", "MT-PRIORITY MIXER"} <= set(lines)
    (release,) = [line.split() for line in lines if line.startswith("FUTURERELEASE ")]
    assert release[1] == "3600"
    # What is announced is taken.
    assert (await client.ask(f"MAIL FROM:<> HOLDUNTIL={release[2]}")).startswith("250")


async def test_an_address_may_go_without_them(serve: Serve) -> None:
    every = frozenset({"DSN", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY"})
    client = await (await serve(discard_ehlo_keywords=every)).connect()
    told = await client.ask("EHLO x")
    assert not any(word in told for word in every)
    assert (await client.ask("MAIL FROM:<a@b> MT-PRIORITY=1")).startswith("555 5.5.4")
    await client.ask("MAIL FROM:<a@b>")
    assert (await client.ask("RCPT TO:<t@apn.example.com> NOTIFY=NEVER")).startswith("555 5.5.4")


@pytest.mark.parametrize("command", ["MAIL FROM:<a@b> RET=FULL", "RCPT TO:<t@apn.example.com> NOTIFY=NEVER"])
async def test_parameters_need_ehlo(serve: Serve, command: str) -> None:
    client = await (await serve()).connect()
    await client.ask("HELO x")
    if command.startswith("RCPT"):
        await client.ask("MAIL FROM:<a@b>")
    assert (await client.ask(command)).startswith("555 5.5.4")
