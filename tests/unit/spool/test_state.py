"""The state store keeps small values over restarts and between processes, each channel its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from mcmt.channel.port import State
from mcmt.errors import SpoolError, SpoolUnusable
from mcmt.spool.state import FILE, StateStore

PUT = """
import sys
from pathlib import Path
from mcmt.spool.state import StateStore
store = StateStore.open(Path(sys.argv[1])).scope("apn")
for n in range(50):
    store.put(f"{sys.argv[2]}-{n}", b"%d" % n)
"""


def test_a_value_is_kept_over_a_restart(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path / "spool")
    scope: State = store.scope("apn")
    assert scope.get("token") is None
    scope.put("token", b"\0old")
    scope.put("token", b"\0new")
    store.close()
    again = StateStore.open(tmp_path / "spool")
    assert again.scope("apn").get("token") == b"\0new"
    again.close()


def test_of_several_that_swap_at_once_one_wins(tmp_path: Path) -> None:
    stores = [StateStore.open(tmp_path) for _ in range(4)]
    for before in (None, b"0", b"1"):
        won: list[bytes] = []

        def swap(number: int, before: bytes | None = before, won: list[bytes] = won) -> None:
            value = b"%d" % (int(before or b"-1") + 1)
            if stores[number].scope("apn").swap("token", before, value):
                won.append(value)

        threads = [threading.Thread(target=swap, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [b"%d" % (int(before or b"-1") + 1)]
        assert stores[0].scope("apn").get("token") == won[0]
    for store in stores:
        store.close()


def test_channels_do_not_see_each_other(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path)
    store.scope("a").put("bc", b"1")
    store.scope("ab").put("c", b"2")
    store.put("abc", b"3")
    assert [store.scope("a").get("bc"), store.scope("ab").get("c"), store.get("abc")] == [b"1", b"2", b"3"]
    assert store.scope("a").get("c") is None
    store.close()


def test_several_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path)
    writers = [subprocess.Popen([sys.executable, "-c", PUT, str(tmp_path), str(n)]) for n in range(2)]

    def put(name: int) -> None:
        for n in range(50):
            store.scope("apn").put(f"t{name}-{n}", b"")

    threads = [threading.Thread(target=put, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert all(store.scope("apn").get(f"{n}-{m}") == b"%d" % m for n in range(2) for m in range(50))
    assert all(store.scope("apn").get(f"t{n}-{m}") == b"" for n in range(2) for m in range(50))
    store.close()


def test_a_killed_process_has_kept_what_it_put(tmp_path: Path) -> None:
    script = PUT + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path), "k"], check=False).returncode == -9
    store = StateStore.open(tmp_path)
    assert store.scope("apn").get("k-49") == b"49"
    store.close()


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"nonsense" * 1000)
    with pytest.raises(SpoolUnusable, match=FILE):
        StateStore.open(tmp_path)


def test_a_store_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path)
    breaker = apsw.Connection(str(tmp_path / FILE))
    breaker.execute("DROP TABLE state")
    breaker.close()
    with pytest.raises(SpoolError, match="cannot write"):
        store.put("key", b"")
    with pytest.raises(SpoolError, match="cannot read"):
        store.get("key")
    store.close()
