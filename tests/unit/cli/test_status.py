"""What ``mcmt status`` writes of an engine with everything that it can have."""

from __future__ import annotations

import msgspec
import pytest

from mcmt.cli.status import _write_domain, _write_engine
from mcmt.control.protocol import DomainStatus
from tests.unit.cli.test_top import HOOK, JID, TUBE, shot


def test_every_door_source_component_and_webhook_is_shown_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "a reason that is told at length: " + "and on it goes " * 8
    doors = [("HTTP", "127.0.0.1", 8025), ("apns gateway", "::1", 2195), ("pyapns", "127.0.0.1", 7077)]
    engine = shot(
        0.0,
        listening=(("SMTP", "127.0.0.1", 2525), *doors),
        sources=(msgspec.structs.replace(TUBE, name="notifications-of-the-shop-that-are-urgent", reason=reason),),
        components=(msgspec.structs.replace(JID, reason=reason, registrations=12),),
        webhooks=(msgspec.structs.replace(HOOK, name="warehouse-of-events-in-the-north", reason=reason, dropped=3),),
    ).engine
    _write_engine(engine)
    _write_domain(DomainStatus(domain="a.example", state="up", queued=9, high=2, bulk=4, route="apn://x"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80, lines
    text = " ".join(" ".join(lines).split())
    assert "doors HTTP 127.0.0.1:8025, apns gateway [::1]:2195, pyapns 127.0.0.1:7077" in text
    assert "12 devices registered" in text
    assert "3 DROPPED" in text
    assert "2 of high priority; 4 bulk" in text
