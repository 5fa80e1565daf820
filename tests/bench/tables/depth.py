"""Table 5: what a queue for a dead domain costs the others, and the restart with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.contender import DEAD, Contender, contender
from tests.bench.gateway import Gateway, gateway
from tests.bench.mail import DOMAIN
from tests.bench.pairs import ROUNDS
from tests.bench.profiles import profiled
from tests.bench.results import Goal, Profile, Sample, Table, median, spread
from tests.bench.setting import Setting
from tests.bench.usage import peaks_resident
from tests.support.engine_process import EngineProcess, apn_domain

SLOWER, MEMORY = 0.10, 200 * 1024**2
RESTART, LISTING = 5.0, 1.0
LISTED = 1000
"""Deliveries that ``queue list`` is asked for: some screens."""
PROFILED = 50_000
"""Deliveries listed while the profile is taken."""


def measure(setting: Setting) -> Table:
    """Run it."""
    depths = setting.choose((0, 100_000, 1_000_000), (0, 50_000))
    count = setting.choose(10_000, 2_000)
    folder = setting.below("depth")
    samples: dict[int, list[Sample]] = {}
    rows, profiles = [], []
    listing = restart = 0.0
    with gateway(folder / "nginx", setting.certificates) as sink:
        for depth in depths:
            with contender(folder / f"mcmt-{depth}", setting.certificates, sink) as mcmt:
                mcmt.end_to_end(500)
                filled = mcmt.fill(depth)
                fill_peak = max(peaks_resident(mcmt.pid))
                setting.say(f"depth {depth:,}: filled in {filled:.1f} s")
                # An engine with an empty queue of its own runs beside it: the rounds are pairs.
                with contender(folder / f"empty-{depth}", setting.certificates, sink) as empty:
                    empty.end_to_end(500)
                    pairs = [(empty.end_to_end(count), mcmt.end_to_end(count)) for _ in range(ROUNDS)]
                samples[depth] = [ours for _, ours in pairs]
                relative = median([ours.rate / base.rate for base, ours in pairs])
                relative_cost = median([ours.cost / base.cost for base, ours in pairs])
                listing, whole = _list(mcmt, LISTED), _list(mcmt, None)
                if depth == depths[-1]:
                    profiles.append(_profile(mcmt, folder, depth))
                mcmt.engine.kill()
                restart, ready = _restart(folder / f"mcmt-{depth}", setting, sink, depth)
            rows.append(
                [
                    f"{depth:,}",
                    spread([sample.rate for sample in samples[depth]]),
                    f"{relative:.2f}",
                    spread([sample.cost for sample in samples[depth]]),
                    f"{relative_cost:.2f}",
                    f"{max(sample.largest for sample in samples[depth]) / 1024**2:.0f} MB",
                    f"{max(fill_peak, *(sample.largest for sample in samples[depth])) / 1024**2:.0f} MB",
                    f"{restart:.2f} s" if depth else "",
                    f"{ready:.2f} s",
                    f"{listing:.2f} s",
                    f"{whole:.2f} s",
                ]
            )
            setting.say(f"depth {depth:,}: {relative:.2f} of the empty one's rate, restart {restart:.2f} s")
    deepest = depths[-1]
    peak = max(sample.largest for sample in samples[deepest])
    return Table(
        title="Depth",
        how=(
            f"Deliveries queued for a domain whose gateway does not answer; {count:,} messages by `smtp-source` go "
            "through another domain meanwhile. Beside it runs an engine with an empty queue, and the rounds are pairs: "
            "the ratios are the median of 3. `queue list` is the command from its start to its end, Python's own start "
            f"included, for the first {LISTED:,} deliveries, and for all. Restart: kill -9 with the queue full, then "
            "from the start of `mcmt serve` to the first request at nginx, which now stands where nobody listened; and "
            "from its start until it has said where it listens. The filling peak is the most memory while the queue "
            "was filled by messages of 10,000 tokens and while the others went through."
        ),
        header=[
            *("queued", "messages/s", "of the empty one's", "CPU a message, us", "of the empty one's"),
            *("memory of a process at most", "filling included", "restart to first push", "restart to ready"),
            *(f"queue list --limit {LISTED}", "queue list, all"),
        ],
        rows=rows,
        goals=[
            Goal(f"throughput within 10 % with {deepest:,} queued", f"{relative:.2f} of it", relative >= 1 - SLOWER),
            Goal(f"under 200 MB a process with {deepest:,} queued", f"{peak / 1024**2:.0f} MB", peak < MEMORY),
            Goal(f"first push under 5 s after a restart with {deepest:,}", f"{restart:.2f} s", restart < RESTART),
            Goal(f"queue list in under 1 s with {deepest:,}", f"{listing:.2f} s for {LISTED:,}", listing < LISTING),
            Goal(f"queue list of all {deepest:,} in under 1 s", f"{whole:.2f} s", whole < LISTING),
        ],
        profiles=profiles,
        chart=[
            (f"{depth:,} queued", median([sample.cost for sample in those]), "us CPU a message")
            for depth, those in samples.items()
        ],
    )


def _list(mcmt: Contender, limit: int | None) -> float:
    command = [sys.executable, "-m", "mcmt", "queue", "list", DEAD, "--config", str(mcmt.engine.config)]
    if limit:
        command += ["--limit", str(limit)]
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=180)
    return time.monotonic() - started


def _profile(mcmt: Contender, folder: Path, depth: int) -> Profile:
    title = f"mcmt, queue list --limit {PROFILED:,} of {depth:,}"
    return profiled(mcmt.pid, folder, title, lambda: _list(mcmt, PROFILED))


def _restart(folder: Path, setting: Setting, sink: Gateway, depth: int) -> tuple[float, float]:
    """Seconds to the first push, 0 where nothing is queued; and until it listens."""
    domains = {name: apn_domain(sink.port, setting.certificates) for name in (DEAD, DOMAIN)}
    again = EngineProcess(folder, domains)
    mark, started = sink.mark(), time.time()
    again.start()
    ready = time.time() - started
    try:
        deadline = time.monotonic() + 60
        while depth and not (sink.mark() > mark and sink.since(mark).times):
            assert time.monotonic() < deadline, "nothing was pushed after the restart"
            time.sleep(0.02)  # nginx's log has no event to wait for
        first = min(sink.since(mark).times) - started if depth else 0.0
    finally:
        again.kill()
    time.sleep(0.5)  # what nginx still logs of it
    return first, ready
