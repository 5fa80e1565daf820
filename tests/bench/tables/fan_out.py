"""Table 3: messages of 10,000 device tokens, each push with its log line."""

from __future__ import annotations

from tests.bench.contender import TOKENS, contender
from tests.bench.gateway import gateway
from tests.bench.profiles import profiled
from tests.bench.results import Goal, Table, median, spread
from tests.bench.setting import Setting
from tests.bench.tables.end_to_end import cores

WHOLE = 1_000_000
SECONDS, MEMORY = 20.0, 300 * 1024**2


def measure(setting: Setting) -> Table:
    """Run it."""
    messages, rounds = setting.choose((100, 3), (5, 1))
    folder = setting.below("fan_out")
    with (
        gateway(folder / "nginx", setting.certificates) as sink,
        contender(folder / "mcmt", setting.certificates, sink) as mcmt,
    ):
        mcmt.fan_out(1)
        samples, logged = [], []
        for _ in range(rounds):
            sample, seconds = mcmt.fan_out(messages)
            samples.append(sample)
            logged.append(seconds)
            setting.say(f"fan-out: {sample.rate:,.0f}/s, {sample.cost:.1f} us CPU each, logged after {seconds:.1f} s")
        profile = profiled(mcmt.pid, folder, "mcmt, fan-out", lambda: mcmt.fan_out(max(5, messages // 5)))
    count = messages * TOKENS
    whole = median(logged) / count * WHOLE
    memory = max(sample.memory for sample in samples)
    return Table(
        title="Fan-out",
        how=(
            f"{messages} messages of {TOKENS:,} device tokens each, submitted one after another over a connection "
            f"each: {count:,} pushes of 200 bytes and as many lines in the notification log. "
            f"Every apns-id is at nginx once. Time from the first submission; "
            f"{'median of 3' if rounds > 1 else 'one run'}; fsync on."
        ),
        header=[
            "pushes",
            "s to the last push",
            "s to the last log line",
            "pushes/s",
            "CPU a push, us",
            "memory at most",
        ],
        rows=[
            [
                f"{count:,}",
                spread([sample.seconds for sample in samples], "{:.1f}"),
                spread(logged, "{:.1f}"),
                spread([sample.rate for sample in samples]),
                spread([sample.cost for sample in samples], "{:.1f}"),
                f"{memory / 1024**2:.0f} MB",
            ]
        ],
        goals=[
            Goal(
                f"a million pushes, each with its log line, in {SECONDS:.0f} s on two cores",
                f"{whole:.1f} s" + ("" if count == WHOLE else f", reckoned from {count:,}"),
                whole <= SECONDS,
            ),
            Goal("under 300 MB", f"{memory / 1024**2:.0f} MB", memory < MEMORY),
        ],
        notes=[cores(samples)],
        profiles=[profile],
    )
