"""Table 1: a message's whole way, against Postfix's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from tests.bench.contender import contender, relayed
from tests.bench.gateway import gateway
from tests.bench.mail import MESSAGE, PAYLOAD, SESSIONS, relay
from tests.bench.pairs import cost_ratio, interleaved, ratio
from tests.bench.profiles import profiled
from tests.bench.results import Goal, Sample, Table, median, spread
from tests.bench.setting import Setting

LEAST, AIM = 10, 15
OURS, THEIRS = "mcmt", "Postfix"
ALONE = "mcmt, one process"
UNSAFE = ", eatmydata"
DEARER = 0.15


def measure(setting: Setting) -> Table:
    """Run it."""
    ours, theirs = setting.choose((20_000, 4_000), (3_000, 600))
    folder = setting.below("end_to_end")
    with ExitStack() as stack:
        sink = stack.enter_context(gateway(folder / "nginx", setting.certificates))
        safe = stack.enter_context(contender(folder / "mcmt", setting.certificates, sink))
        alone = stack.enter_context(contender(folder / "alone", setting.certificates, sink, workers=1))
        unsafe = stack.enter_context(contender(folder / "unsafe", setting.certificates, sink, fsync=False))
        postfix = stack.enter_context(relay(setting.certificates))
        postfix_unsafe = stack.enter_context(relay(setting.certificates, fsync=False))
        for warmed in (safe, alone, unsafe):
            warmed.end_to_end(500)
        for peer in (postfix, postfix_unsafe):
            relayed(peer, 200, folder)
        samples = interleaved(
            {
                OURS: lambda: safe.end_to_end(ours),
                ALONE: lambda: alone.end_to_end(ours),
                THEIRS: lambda: relayed(postfix, theirs, folder),
                OURS + UNSAFE: lambda: unsafe.end_to_end(ours),
                THEIRS + UNSAFE: lambda: relayed(postfix_unsafe, theirs, folder),
            },
            setting.say,
        )
        profile = profiled(safe.pid, folder, "mcmt, messages by smtp-source, fsync on", lambda: safe.end_to_end(ours))
    dearer = 1 / cost_ratio(samples, OURS, ALONE)
    faster, faster_unsafe = ratio(samples, OURS, THEIRS), ratio(samples, OURS + UNSAFE, THEIRS + UNSAFE)
    return Table(
        title="End to end",
        how=(
            f"Postfix's `smtp-source` with {SESSIONS} sessions that stay open submits the same message "
            f"({len(MESSAGE)} bytes, a push of {len(PAYLOAD)} bytes in it) to both: to mcmt, which pushes it to nginx "
            "over TLS and HTTP/2, and to Postfix, which hands it on to `smtp-sink`. "
            f"{ours:,} messages a run for mcmt, {theirs:,} for Postfix; time from the start of `smtp-source` to the "
            "last message at the far end. Postfix has its defaults, and no TLS. "
            "Median of 3, least and most in brackets."
        ),
        header=["", "messages/s", "CPU a message, us", "memory at most", "times Postfix", "CPU, of Postfix's"],
        rows=[
            _row(OURS + ", fsync on", samples[OURS], faster, cost_ratio(samples, OURS, THEIRS)),
            _row(ALONE + ", fsync on", samples[ALONE]),
            _row(THEIRS + ", fsync on", samples[THEIRS]),
            _row(
                OURS + UNSAFE,
                samples[OURS + UNSAFE],
                faster_unsafe,
                cost_ratio(samples, OURS + UNSAFE, THEIRS + UNSAFE),
            ),
            _row(THEIRS + UNSAFE, samples[THEIRS + UNSAFE]),
        ],
        goals=[
            Goal(f"at least {LEAST} times Postfix, fsync on", f"{faster:.1f} times", faster >= LEAST),
            Goal(f"{AIM} times Postfix, fsync on", f"{faster:.1f} times", faster >= AIM),
            Goal(f"{AIM} times Postfix, fsync off on both sides", f"{faster_unsafe:.1f} times", faster_unsafe >= AIM),
            Goal(f"{DEARER:.0%} more CPU a message than one process", f"{dearer - 1:+.0%}", dearer - 1 <= DEARER),
        ],
        notes=[cores(samples[OURS])],
        profiles=[profile],
    )


def cores(samples: Sequence[Sample]) -> str:
    """Who kept the processors busy."""
    shares = {
        "mcmt": [sample.cpu / sample.seconds for sample in samples],
        "nginx": [sample.sink / sample.seconds for sample in samples],
        "smtp-source": [sample.source / sample.seconds for sample in samples],
    }
    used = ", ".join(f"{name} {median(values):.2f}" for name, values in shares.items() if any(values))
    return (
        f"Processors kept busy while mcmt was measured, fsync on: {used}, of {os.cpu_count()}. mcmt has "
        "`workers: auto`: a process for each processor, and the supervisor, which writes the logs."
    )


def _row(name: str, samples: list[Sample], faster: float = 0.0, cost: float = 0.0) -> list[str]:
    memory = max(sample.memory for sample in samples)
    return [
        name,
        spread([sample.rate for sample in samples]),
        spread([sample.cost for sample in samples]),
        f"{memory / 1024**2:.0f} MB" if memory else "",
        f"{faster:.1f}" if faster else "",
        f"1/{cost:.1f}" if cost else "",
    ]
