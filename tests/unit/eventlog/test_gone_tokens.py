"""The token log, and the table that the event log keeps from what it reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcmt.config.settings import EventLogSettings, Settings
from mcmt.errors import SpoolError
from mcmt.eventlog.loggers import EventLogger, build_loggers
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import GONE, Event, Kind, OutboxRow
from tests.unit.eventlog.support import Bench, delivery, logger, until

TOKEN = "ab" * 32


def gone(number: int, **fields: object) -> Event:
    return Event(
        **{
            "kind": Kind.TOKEN,
            "time": 1_700_000_000.25 + number,
            "id": f"018bcfe568007123a8b9c0d1-{number}",
            "channel": "apn",
            "domain": "apn.example.com",
            "token": TOKEN,
            "code": "410",
            "text": "Unregistered",
            "phase": GONE,
            "protocol": "push",
            "gone_since": 1_600_000_000.5,
            **fields,
        }  # type: ignore[arg-type]
    )


def token_logger(path: Path, token_log: str = "full", heartbeat: float = 0.0) -> EventLogger:
    stanza = EventLogSettings(
        name="token_logger.one",
        channel=None,
        logfile=path,
        heartbeat=heartbeat,
        token_log=token_log,  # type: ignore[arg-type]
    )
    settings = Settings(
        file=path,
        hostname="x",
        workers=1,
        spool=None,  # type: ignore[arg-type]
        listen=(),
        domains={},
        channel_loggers=(),
        mainlog=(),
        rejectlog=(),
        token_loggers=(stanza,),
        control_socket=path,
    )
    (built,) = build_loggers(settings)
    return built


class Table:
    """Remembers which rows it was given, and when it was to save."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.saved: list[int] = []
        self.refusing = False

    def take(self, shard: str, rows: Sequence[OutboxRow]) -> None:
        assert shard == "0"
        self.taken += [row.sequence for row in rows]

    def save(self) -> None:
        if self.refusing:
            raise SpoolError("refused by the test")
        self.saved = list(self.taken)


def writer(bench: Bench, table: Table) -> EventLogWriter:
    it = EventLogWriter(bench.memory, [logger(bench.path)], bench.clock, bench.told.append, table)
    it.add("0", bench.outbox)
    return it


def test_a_gone_token_is_one_json_object_with_what_the_gateway_said(tmp_path: Path) -> None:
    line = token_logger(tmp_path / "tokens.jsonl").render(gone(1))
    assert line is not None
    assert json.loads(line) == {
        "type": "G",
        "time": 1_700_000_001.25,
        "event": "gone",
        "domain": "apn.example.com",
        "channel": "apn",
        "token": TOKEN,
        "since": 1_600_000_000.5,
        "reason": "410 Unregistered",
        "id": "018bcfe568007123a8b9c0d1-1",
        "source": "push",
    }


def test_the_token_log_has_nothing_else_and_no_other_log_has_tokens(tmp_path: Path) -> None:
    it = token_logger(tmp_path / "tokens.jsonl", heartbeat=60)
    assert it.render(delivery(1)) is None
    beat = it.render(Event(kind=Kind.HEARTBEAT, time=1.0, channel="token_logger.one"))
    assert beat is not None
    assert it.is_heartbeat(b'{"type":"M","time":1700000000.0,"channel":"token_logger.one"}')
    assert logger(tmp_path / "log.ec").render(gone(1)) is None


@pytest.mark.parametrize(("token_log", "written"), [("masked", "abab...abab"), ("none", "-")])
def test_a_token_is_hidden_where_the_stanza_says_so(tmp_path: Path, token_log: str, written: str) -> None:
    line = token_logger(tmp_path / "tokens.jsonl", token_log).render(gone(1))
    assert line is not None
    assert json.loads(line)["token"] == written


async def test_the_table_is_on_disk_before_what_was_read_is_remembered_and_goes(tmp_path: Path) -> None:
    bench, table = Bench(tmp_path), Table()
    order: list[str] = []

    def remembered() -> None:
        order.append(f"remembered after {table.saved}")

    bench.outbox.on_acknowledge = lambda: order.append("let go")
    bench.outbox.put([gone(1)])
    it = writer(bench, table)
    bench.memory.before_save = remembered
    await it.start()
    await it.flushed()
    assert order[-2:] == ["remembered after [1]", "let go"]
    assert bench.outbox.depth() == 0
    await it.stop()


async def test_while_the_table_cannot_be_saved_no_row_goes_and_afterwards_none_is_missing(tmp_path: Path) -> None:
    bench, table = Bench(tmp_path), Table()
    it = writer(bench, table)
    await it.start()
    table.refusing = True
    bench.outbox.put([gone(1), delivery(1)])
    it.wake()
    await until(lambda: table.taken)
    bench.clock.advance(0.2)
    await until(lambda: bench.told)
    assert "tries again every second" in bench.told[0]
    assert bench.outbox.depth() == 1
    table.refusing = False
    bench.clock.advance(1.1)
    await it.flushed()
    assert set(table.saved) == {1}
    assert bench.outbox.depth() == 0
    assert bench.text().count("\n") == 1
    await it.stop()
