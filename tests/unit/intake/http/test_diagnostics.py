"""What stands on standard error when clients speak no HTTP."""

from __future__ import annotations

import logging

import pytest

from mcmt.intake.http.diagnostics import Diagnostics
from tests.support.manual_clock import ManualClock
from tests.unit.intake.http.conftest import Start

SECRET = "mcmt_s3cr3t"
HEAD = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}"


@pytest.mark.parametrize(
    "wrong",
    [
        f"{HEAD}\x01\r\n\r\n",
        f"{HEAD}\r\nHost: y\r\n\r\n",
        f"{HEAD}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        f"{HEAD}\r\nX: {SECRET * 2000}\r\n\r\n",
        f"\x1b[2J {SECRET}\r\n\r\n",
    ],
)
async def test_what_cannot_be_read_is_told_without_the_clients_words_and_not_each_time(
    start: Start, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    caplog.set_level(logging.INFO)
    server = await start()
    for _ in range(3):
        assert (await server.say(wrong.encode())).status == 400
    told = [record for record in caplog.records if record.name.startswith("mcmt")]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert not any(record.exc_info for record in told)
    assert SECRET not in caplog.text
    assert "127.0.0.1" in caplog.text


def test_a_bug_is_told_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("ours")
    except ValueError as error:
        Diagnostics(logging.getLogger("mcmt.test"), ManualClock()).exception("Unhandled", exc_info=error)
    (record,) = caplog.records
    assert record.exc_info
    assert record.levelno == logging.ERROR
