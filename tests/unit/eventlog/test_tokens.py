"""Device tokens in the logs: as the operator wants them, in every log and every format, wherever they stand."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from mcmt.config.settings import EventLogSettings
from mcmt.eventlog.loggers import EventLogger, build_loggers
from mcmt.eventlog.tokens import compile_tokens
from mcmt.message.event import Event, Kind
from tests.unit.control.stand_ins import settings

TOKEN = "0123456789abcdef" * 4
HASHED = "sha256-a8ae6e6ee929abea"
FORMAT = '%t@D@%i@"%sa"@"%da"@%dt@%vctx_mess{DLV_Dest_ID}@%e'


def loggers(token_log: str, form: str) -> list[EventLogger]:
    known = {"logfile": Path("/logs/one"), "token_log": token_log, "format": form}
    formats = dict.fromkeys(("delivery_format", "tempfail_format", "permfail_format"), FORMAT)
    base = settings(Path("/spool/control.sock"))
    chosen = msgspec.structs.replace(
        base,
        channel_loggers=(
            EventLogSettings(name="apn_logger.one", channel="apn", heartbeat_format="%t@M", **{**known, **formats}),  # type: ignore[arg-type]  # a test's own words
        ),
        mainlog=(EventLogSettings(name="ec_logger.one", channel=None, **{**known, "logfile": Path("/logs/two")}),),  # type: ignore[arg-type]  # as above
        rejectlog=(EventLogSettings(name="ec_logger.one", channel=None, **{**known, "logfile": Path("/logs/three")}),),  # type: ignore[arg-type]  # as above
    )
    return list(build_loggers(chosen))


def event(kind: Kind, **fields: object) -> Event:
    known = {
        "id": "01a2048fb4ae70d48ac71a7a-1",
        "batch_id": "01a2048fb4ae70d48ac71a7a",
        "channel": "apn",
        "domain": "apn.example.com",
        "sender": "app@example.com",
        "recipient": f"{TOKEN.upper()}@apn.example.com",
        "remote_id": "01a2048f-b4ae-70d4-8ac7-1a7a00000001",
        "text": f"no such device {TOKEN}",
        "context": {"DLV_Dest_ID": f"{TOKEN},{'f' * 64}", "campaign": "spring"},
    }
    token = {} if kind in (Kind.RECEPTION, Kind.REJECTION) else {"token": TOKEN}
    return Event(kind=kind, time=1.8e9, **{**known, **token, **fields})  # type: ignore[arg-type]  # a test's own words


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("token_log", "written"), [("masked", "0123...cdef"), ("hash", HASHED), ("none", "-"), ("full", TOKEN)]
)
@pytest.mark.parametrize("kind", [Kind.RECEPTION, Kind.DELIVERY, Kind.TRANSIENT, Kind.PERMANENT, Kind.REJECTION])
def test_no_line_has_a_token_in_another_form_than_asked_for(
    kind: Kind, token_log: str, written: str, form: str
) -> None:
    lines = [line for logger in loggers(token_log, form) if (line := logger.render(event(kind)))]
    assert any(written in line.lower() for line in lines)
    for line in lines:
        assert token_log == "full" or not re.search("[0-9a-f]{32}", line.lower()), line
        assert "01a2048fb4ae70d48ac71a7a" in line or kind is Kind.REJECTION


def test_the_columns_stay_where_they_are() -> None:
    channel = loggers("hash", "text")[0]
    line = channel.render(event(Kind.DELIVERY, recipient="user@apn.example.com"))
    assert line == (
        f'1800000000@D@01a2048fb4ae70d48ac71a7a-1@"app@example.com"@"user"@{HASHED}@{HASHED},'
        f"{compile_hash('f' * 64)}@no such device {HASHED}"
    )


def compile_hash(token: str) -> str:
    hide = compile_tokens("hash")
    assert hide is not None
    return hide(Event(kind=Kind.DELIVERY, time=0.0, token=token)).token


def test_the_hash_is_what_the_manual_says_in_any_case_of_the_token() -> None:
    shell = f"printf %s {TOKEN.upper()} | tr A-F a-f | sha256sum | cut -c1-16"
    told = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.strip()
    assert compile_hash(TOKEN) == compile_hash(TOKEN.upper()) == f"sha256-{told}"


def test_a_short_token_is_hidden_too_and_its_ends_are_not_shown() -> None:
    (channel, main, _) = loggers("masked", "json")
    short = event(Kind.DELIVERY, token="abcd1234", recipient="ABCD1234@apn.example.com", context=None, text="")
    for logger in (channel, main):
        record = json.loads(logger.render(short) or "")
        assert (record["token"], record["recipient"]) == ("...", "...@apn.example.com")


def test_a_mail_address_is_no_token() -> None:
    mail = event(Kind.DELIVERY, token="user@example.com", recipient="user@example.com", context=None, text="2.0.0 ok")
    record = json.loads(loggers("none", "json")[1].render(mail) or "")
    assert (record["token"], record["recipient"]) == ("user@example.com", "user@example.com")


def test_lines_that_tell_of_no_delivery_are_as_they_were() -> None:
    news = Event(kind=Kind.ROUTE, time=1.0, domain="apn.example.com", phase="down", text=f"fingerprint {TOKEN}")
    assert TOKEN in (loggers("none", "text")[1].render(news) or "")


def test_by_default_nothing_is_hidden() -> None:
    assert compile_tokens(EventLogSettings(name="x", channel=None, logfile=Path("/x")).token_log) is None
