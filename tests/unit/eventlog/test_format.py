"""Formats with macros: each macro's value, Momentum's default lines, what is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.apn.logger import LOGGER
from mcmt.eventlog.format import check_format, compile_format
from mcmt.message.event import Event, Kind

EVENT = Event(
    kind=Kind.TRANSIENT,
    time=1_700_000_001.9,
    id="018bcfe568007123a8b9c0d1-2",
    batch_id="018bcfe568007123a8b9c0d1",
    channel="apn",
    domain="apn.example.com",
    sender="app@example.com",
    recipient="user43@apn.example.com",
    token="ab12",
    size=187,
    remote_id="42",
    remote_address="17.188.1.2",
    code="10",
    text="Shutdown",
    context={"campaign": "spring", "odd": "a@b"},
)
NAMED = msgspec.structs.replace(EVENT, context={"DLV_Source_Addr": "shop@x.example", "DLV_Dest_Addr": "me@y.example"})


@pytest.mark.parametrize(
    ("macro", "value"),
    [
        ("%t", "1700000001"),
        ("%t{%Y-%m-%dT%H:%M:%SZ}", "2023-11-14T22:13:21Z"),
        ("%i", "018bcfe568007123a8b9c0d1-2"),
        ("%sa", "app@example.com"),
        ("%da", "user43"),
        ("%dt", "ab12"),
        ("%d", "apn.example.com"),
        ("%g", "default"),
        ("%b", "default"),
        ("%H", "17.188.1.2"),
        ("%B", "187"),
        ("%ti", "42"),
        ("%S", "10"),
        ("%e", "Shutdown"),
        ("%vctx_mess{campaign}", "spring"),
        ("%vctx_mess{odd}", "a\\x40b"),
        ("%vctx_mess{absent}", ""),
        ("%%", "%"),
        ("%%t", "%t"),
        ("100%%@%S%e", "100%@10Shutdown"),
        ("no macro", "no macro"),
    ],
)
def test_a_macro_stands_for_its_value(macro: str, value: str) -> None:
    assert compile_format(f"<{macro}>")(EVENT) == f"<{value}>"


def test_context_variables_replace_the_addresses() -> None:
    assert compile_format("%sa %da")(NAMED) == "shop@x.example me@y.example"


def test_a_local_part_keeps_no_at_sign_and_a_bare_recipient_is_its_own() -> None:
    render = compile_format("%da")
    assert render(msgspec.structs.replace(EVENT, recipient='"a@b"@c')) == "\\x22a\\x40b\\x22"
    assert render(msgspec.structs.replace(EVENT, recipient="user")) == "user"


def test_an_event_without_context_has_empty_variables() -> None:
    assert compile_format("<%vctx_mess{campaign}>")(msgspec.structs.replace(EVENT, context=None)) == "<>"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            LOGGER.delivery,
            '1700000001@D@018bcfe568007123a8b9c0d1-2@"app@example.com"@"user43"'
            "@apn.example.com@default@default@17.188.1.2@187@42",
        ),
        (
            LOGGER.tempfail,
            '1700000001@T@018bcfe568007123a8b9c0d1-2@"app@example.com"@"user43"'
            "@apn.example.com@default@default@17.188.1.2@187@42@10@Shutdown",
        ),
        (
            LOGGER.permfail,
            "1700000001@P@018bcfe568007123a8b9c0d1-2@app@example.com@user43"
            "@apn.example.com@default@default@17.188.1.2@10@Shutdown",
        ),
        (LOGGER.heartbeat, "1700000001@M"),
    ],
)
def test_the_default_formats_write_momentums_lines(text: str, line: str) -> None:
    assert compile_format(text)(EVENT) == line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("%t@%x", "unknown macro %x at column 4"),
        ("%s", "unknown macro %s at column 1"),
        ("50%", "unknown macro % at column 3"),
        ("%t%e%vctx_conn{a}", r"macro %vctx_conn\{ at column 5"),
        ("%t{%Y", r"macro %t\{ at column 1 has no closing brace"),
        ("ab\ncd", r"control character '\\n' at column 3"),
        ("", "cannot be empty"),
    ],
)
def test_a_wrong_format_is_refused_with_its_column(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_format(text)


def test_a_strftime_pattern_cannot_break_the_line() -> None:
    assert compile_format("%t{%n}")(EVENT) == "\\x0A"


@given(
    st.builds(
        Event,
        kind=st.just(Kind.DELIVERY),
        time=st.floats(0, 4e9),
        **{
            name: st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
            for name in ("id", "domain", "sender", "recipient", "token", "remote_id", "remote_address", "code", "text")
        },
        context=st.none() | st.dictionaries(st.sampled_from(["DLV_Source_Addr", "DLV_Dest_Addr", "k"]), st.text()),
    )
)
def test_a_line_is_one_line_and_its_columns_stay_whatever_the_input(event: Event) -> None:
    line = compile_format("%t@%i@%d@%dt@%ti@%H@%S@%e@%vctx_mess{k}")(event)
    assert len(line.split("@")) == 9
    assert len(f"{line}.".splitlines()) == 1
    quoted = compile_format(LOGGER.delivery)(event)
    assert quoted.count('"') == 4
    assert all(address.count("@") <= 1 for address in quoted.split('"')[1::2])
