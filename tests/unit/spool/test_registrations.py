"""The table of registrations: on disk, one for all processes, a device once."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import msgspec
import pytest

from mcmt.errors import SpoolError
from mcmt.spool.registration import DEVICES, Registration
from mcmt.spool.stored_registrations import FILE, StoredRegistrations

ONE = Registration(
    service="push.example.com", node="n1", owner="bob@example.com", device="d1", token="a1" * 32, secret="s"
)


def other(**changes: str) -> Registration:
    return msgspec.structs.replace(ONE, **changes)


def test_what_one_process_keeps_another_finds_also_after_a_restart(tmp_path: Path) -> None:
    now = time.time()
    first, second = StoredRegistrations.open(tmp_path), StoredRegistrations.open(tmp_path)
    kept = first.put(msgspec.structs.replace(ONE, registered=now))
    assert kept is not None
    assert second.find("push.example.com", "n1") == kept
    assert kept.registered == pytest.approx(now, abs=1e-5)
    first.close()
    second.close()
    third = StoredRegistrations.open(tmp_path)
    assert third.of_owner("push.example.com", "bob@example.com") == [kept]
    assert third.find("other.example.com", "n1") is None
    third.close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_device_is_there_once_and_a_node_is_of_one(tmp_path: Path) -> None:
    table = StoredRegistrations.open(tmp_path)
    table.put(ONE)
    again = table.put(other(node="n2", secret="t", token="b2" * 32))
    assert again is not None
    assert (again.node, again.secret, again.token) == ("n1", "s", "b2" * 32)
    assert table.put(other(owner="dora@example.com")) is None
    for number in range(DEVICES - 1):
        assert table.put(other(node=f"m{number}", device=f"e{number}")) is not None
    assert table.put(other(node="m", device="e")) is None
    assert len(table.page("", 0, 100)) == len(table.page("push.example.com", 0, 100)) == DEVICES
    table.close()


def test_they_are_counted_by_service(tmp_path: Path) -> None:
    table = StoredRegistrations.open(tmp_path)
    assert table.counts() == {}
    for number in range(3):
        table.put(other(node=f"n{number}", device=f"d{number}"))
    table.put(other(service="new.example.com"))
    assert table.counts() == {"push.example.com": 3, "new.example.com": 1}
    table.close()


def test_it_is_let_go_of_by_node_owner_or_device(tmp_path: Path) -> None:
    table = StoredRegistrations.open(tmp_path)
    for number in range(6):
        table.put(other(node=f"n{number}", device=f"d{number}", owner=f"u{number // 3}@example.com"))
    service = "push.example.com"
    assert table.remove(service, node="n0") == 1
    assert table.remove("other.example.com", node="n1") == 0
    assert table.remove(service, owner="u0@example.com", device="d1") == 1
    assert table.remove(service, owner="u1@example.com") == 3
    assert [one.node for one in table.page("", 0, 100)] == ["n2"]
    table.close()


def test_trouble_with_the_file_is_a_spool_error(tmp_path: Path) -> None:
    table = StoredRegistrations.open(tmp_path)
    table.close()
    with pytest.raises(SpoolError):
        table.find("push.example.com", "n1")
