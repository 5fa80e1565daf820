"""The benchmark's parts read what its peers print, and reckon with it as they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contender import count_deliveries
from tests.bench.document import chart, document, grid
from tests.bench.gateway import AFTER_BODY, AT_ONCE, gateway, parse_log
from tests.bench.installs import version_in
from tests.bench.mail import fan_out_message, payload, sink_count
from tests.bench.pairs import cost_ratio, interleaved, ratio
from tests.bench.profiles import EVENT_LOOP, HAND_OVER, parse_raw, station
from tests.bench.results import Goal, Sample, Table, percentile, spread
from tests.bench.usage import TICK, Noise, busy_ticks, cpu_of, parse_memory, parse_stat, peaks_resident, run
from tests.support.peers import find_program
from tests.support.tls import Certificates

NO_NOISE = Noise()


# -- what the peers print ---------------------------------------------------------------------------------------------


def test_nginx_log_lines_are_times_states_and_ids() -> None:
    pushes = parse_log(b"1795374000.250 200 id-1\n1795374001.750 200 id-2\n1795374001.000 200 id-3\n")
    assert pushes.ids == ["id-1", "id-2", "id-3"]
    assert pushes.statuses == {b"200"}
    assert pushes.last == 1795374001.75
    assert pushes.seconds == 1.5


@pytest.mark.parametrize(("device", "size"), [(AT_ONCE, 200), (AFTER_BODY, 4096)], ids=["at once", "after the body"])
def test_a_running_nginx_counts_what_the_channel_pushes(
    tmp_path: Path, certificates: Certificates, device: str, size: int
) -> None:
    file = tmp_path / "payload"
    file.write_bytes(payload(size))
    with gateway(tmp_path / "nginx", certificates, device) as sink:
        mark = sink.mark()
        keys = [str(path) for path in (certificates.ca, certificates.client, certificates.client_key)]
        command = [sys.executable, "-m", "tests.bench.clients.push_channel", str(sink.port), "50", str(file), *keys]
        assert run(command, within=30) > 0
        pushes = sink.wait(mark, 50, within=5)
        assert len(set(pushes.ids)) == 50
        with pytest.raises(AssertionError, match="nginx has counted 0 of 1"):
            sink.wait(sink.mark(), 1, within=0.1)


def test_smtp_sinks_counters_follow_one_another_on_one_line() -> None:
    assert sink_count(b"") == 0
    assert sink_count(b"sess=0 quit=0 mesg=9\rsess=0 quit=0 mesg=10\rsess=1 quit=1 mesg=10\r") == 10
    assert sink_count(b"esg=7\rsess=0 quit=0 mesg=8\rsess=0 quit=0 mesg=1") == 8, "cut at either end"


def test_the_notification_log_is_counted_by_its_deliveries() -> None:
    lines = b'1@D@id-1@"app"@"user"@d@g@b@::1@67@x\n1795374000@M\n2@T@id-2@"a"@"b"@d@g@b@h@1@x@503@Later\n'
    assert count_deliveries(lines) == 1


def test_versions_are_found_in_what_programs_say() -> None:
    assert version_in("nginx version: nginx/1.22.1") == "1.22.1"
    assert version_in("h2load nghttp2/1.52.0\n") == "1.52.0"
    assert version_in("mail_version = 3.7.11") == "3.7.11"
    assert version_in("v20.20.2") == "20.20.2"


def test_a_process_with_brackets_and_blanks_in_its_name_is_read() -> None:
    times = "100 50 30 20"
    stat = parse_stat(f"77 (odd) name) S 42 77 77 0 -1 4194304 1 2 3 4 {times} 20 0 1 0 5 6 7")
    assert (stat.parent, stat.own, stat.reaped) == (42, 150 * TICK, 50 * TICK)


def test_memory_is_read_in_bytes() -> None:
    assert parse_memory("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n", "VmHWM") == 2048 * 1024


def test_stolen_time_is_busy_and_waiting_for_a_disk_is_not() -> None:
    assert busy_ticks("cpu  10 1 5 100 50 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == (25, 175)


def test_the_cpu_of_a_program_and_of_what_it_starts_is_counted(tmp_path: Path) -> None:
    burn = "import os; e = lambda: sum(os.times()[:2]); [0 for _ in iter(lambda: e() < 0.2, False)]"
    command = [find_program("sh"), "-c", f"{find_program('python3')} -c '{burn}'; true"]
    assert 0.2 <= run(command, within=20) < 2
    with subprocess.Popen([*command[:2], f"{command[2]}; read x"], stdin=subprocess.PIPE, text=True) as process:
        while cpu_of(process.pid) < 0.2:
            assert process.poll() is None
        assert min(peaks_resident(process.pid)) > 0
        process.communicate("\n", timeout=20)


def test_a_program_that_fails_is_not_measured() -> None:
    with pytest.raises(AssertionError, match="out of order"):
        run([find_program("sh"), "-c", "echo out of order; exit 3"], within=10)


# -- profiles ---------------------------------------------------------------------------------------------------------

RAW = """\
thread (0x7F01): MainThread;serve (mcmt/cli/serve.py:40);run (asyncio/runners.py:118);receive (mcmt/intake/smtp.py:9) 6
thread (0x7F01): MainThread;serve (mcmt/cli/serve.py:40);run (asyncio/runners.py:118) 2
thread (0x7F02): writer;_worker (concurrent/futures/thread.py:81) 1
thread (0x7F02): writer;_commit (/x/mcmt/spool/writer.py:1);step (/x/site-packages/apsw/shell.py:2) 1
"""


def test_a_profile_is_told_by_station_thread_and_function() -> None:
    profile = parse_raw(RAW, "x")
    assert profile.samples == 10
    assert dict(profile.stations) == {"mcmt/intake": 0.6, EVENT_LOOP: 0.2, HAND_OVER: 0.1, "mcmt/spool": 0.1}
    assert profile.threads == [("MainThread", 0.8), ("writer", 0.2)]
    assert profile.functions[0] == ("receive (mcmt/intake/smtp.py)", 0.6)
    assert ("step (apsw/shell.py)", 0.1) in profile.functions


def test_stations_are_folders_of_ours() -> None:
    assert station("send (channels/apn/connection.py:99)") == "channels/apn"
    assert station("run (/srv/app/mcmt/engine/queue.py:99)") == "mcmt/engine"
    assert station("main (mcmt/app.py:1)") is None, "what starts the loop is below every stack"
    assert station("x (/v/site-packages/mcmt/engine/queue.py:1)") is None
    assert station("read (ssl.py:900)") is None


# -- reckoning --------------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_every_other_one_is_reversed() -> None:
    order: list[str] = []

    def contender(name: str) -> Sample:
        order.append(name)
        return Sample(100, 1.0, 0.01)

    samples = interleaved({"a": lambda: contender("a"), "b": lambda: contender("b")}, lambda text: None)
    assert "".join(order) == "abbaab"
    assert {name: len(runs) for name, runs in samples.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    ours = [Sample(100, seconds, 0.01) for seconds in (1.0, 10.0, 1.0)]
    theirs = [Sample(100, seconds, 0.04) for seconds in (8.0, 80.0, 9.0)]
    assert ratio({"a": ours, "b": theirs}, "a", "b") == 8.0
    assert cost_ratio({"a": ours, "b": theirs}, "a", "b") == pytest.approx(4.0)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([float(number) for number in range(1000)], 99) == 990.0
    assert spread([3.0, 1.0, 2.0], "{:.1f}") == "2.0 (1.0 – 3.0)"


def test_payloads_are_of_their_size_and_messages_name_every_token() -> None:
    assert [len(payload(size)) for size in (200, 4096)] == [200, 4096]
    message = fan_out_message(3, first=14)
    assert [f"{number:064x}".encode() in message for number in (13, 14, 15, 16, 17)] == [False, True, True, True, False]


# -- the document -----------------------------------------------------------------------------------------------------


def test_the_document_has_every_goal_and_says_which_is_not_met() -> None:
    goals = [Goal("quick", "1 s", True), Goal("small", "1 GB", False)]
    table = Table("Fan-out", "How.", ["a"], [["1"]], goals, noise=str(NO_NOISE), date="today", form="long")
    text = document({3: table}, [("nginx", "1.22.1")])
    assert "| 3 Fan-out | quick | 1 s | met |" in text
    assert "| 3 Fan-out | small | 1 GB | **not met** |" in text
    assert "| nginx | 1.22.1 |" in text
    assert "today, long form; load average" in text


def test_tables_and_bars_are_plain_text() -> None:
    assert grid(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert chart([("0", 10.0, "us"), ("100", 20.0, "us")]) == (
        "```\n" + "  0 " + "#" * 20 + " 10 us\n" + "100 " + "#" * 40 + " 20 us\n```\n"
    )
