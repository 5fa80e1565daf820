"""Table 4: from the 250 to the request on the wire, at 500 messages a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import uvloop

from tests.bench.contender import DEAD, OTHER, TOKENS, Contender, contender
from tests.bench.gateway import gateway
from tests.bench.mail import DOMAIN, MESSAGE, URGENT, fan_out_message, send_at_rate
from tests.bench.profiles import profiled
from tests.bench.results import Goal, Table, median, percentile, spread
from tests.bench.setting import Setting
from tests.bench.usage import cpu_of

RATE = 500.0
RESOLUTION = 0.001
"""nginx's log rounds times down to whole milliseconds: one is added, against ourselves."""
QUIET, BUSY = 0.005, 0.020
PROFILED = 500_000
"""Deliveries queued while the profile is taken."""
SETTLING = 0.5
"""Seconds until the large message comes."""


class Times(NamedTuple):
    """Of one message: seconds since the epoch."""

    dot: float
    accepted: float
    request: float


Run = list[Times]


def measure(setting: Setting) -> Table:
    """Run it."""
    seconds, rounds, depth = setting.choose((6.0, 3, 1_000_000), (2.0, 1, 100_000))
    folder = setting.below("latency")
    rows, figures = [], {}
    with (
        gateway(folder / "nginx", setting.certificates) as sink,
        contender(folder / "mcmt", setting.certificates, sink) as mcmt,
    ):
        steady(mcmt, 1.0)

        def look(name: str, once: Callable[[], Run]) -> None:
            results = [once() for _ in range(rounds)]
            waits = [[[at.request - at.accepted for at in run] for run in results]]
            waits.append([[at.request - at.dot for at in run] for run in results])
            figures[name] = median([percentile(values, 99) for values in waits[0]])
            rows.append(
                [
                    name,
                    f"{min(map(len, results)):,}",
                    *(
                        spread([percentile(values, hundredths) * 1000 for values in runs], "{:.1f}")
                        for runs in waits
                        for hundredths in (50, 99)
                    ),
                ]
            )
            setting.say(f"latency, {name}: p99 {figures[name] * 1000:.1f} ms")

        look("nothing else", lambda: steady(mcmt, seconds))
        look("a 10,000-token message for another domain", lambda: beside(mcmt, OTHER, seconds))
        look("a 10,000-token message for the same domain", lambda: beside(mcmt, DOMAIN, seconds))
        look(
            "a 10,000-token message for the same domain, the others with MT-Priority: 3",
            lambda: beside(mcmt, DOMAIN, seconds, URGENT),
        )
        cpu = cpu_of(mcmt.pid)
        setting.say(f"latency: {depth:,} queued for a dead domain in {mcmt.fill(depth, DEAD):.0f} s")
        taking = (cpu_of(mcmt.pid) - cpu) / depth * TOKENS
        look(f"{depth:,} queued for a dead domain", lambda: steady(mcmt, seconds))
        profile = profiled(
            mcmt.pid, folder, f"mcmt, taking messages of {TOKENS:,} tokens", lambda: mcmt.fill(PROFILED, DEAD)
        )
    limits = [QUIET, BUSY, BUSY, BUSY, BUSY]
    return Table(
        title="Latency",
        how=(
            f"{RATE:.0f} messages a second for {seconds:.0f} seconds, sent when it is their time whatever the answers "
            "take, by a client that notes when the final dot was written and when the 250 was there; the request's "
            "time is nginx's, to whole milliseconds, and rounded up. Beside a message of 10,000 tokens only those "
            "count whose dot fell between its submission and its last push. Milliseconds; "
            f"{'median of 3 runs, least and most in brackets' if rounds > 1 else 'one run'}; fsync on. Below zero: the "
            "request was there before the client had read its 250."
        ),
        header=["meanwhile", "messages", "250 to request, p50", "p99", "final dot to request, p50", "p99"],
        rows=rows,
        goals=[
            Goal(f"p99 under {limit * 1000:.0f} ms: {name}", f"{figure * 1000:.1f} ms", figure < limit)
            for (name, figure), limit in zip(figures.items(), limits, strict=True)
        ],
        notes=[
            f"To take one message of {TOKENS:,} tokens, without sending it, costs {taking * 1000:.0f} ms of CPU (mean "
            "of filling the dead domain's queue). What of it runs on the event loop's thread is time in which no "
            "other message moves; the profile says what. Messages of the same domain wait their turn behind the "
            "10,000, unless they are urgent."
        ],
        profiles=[profile],
    )


def steady(mcmt: Contender, seconds: float) -> Run:
    """Nothing but the load."""
    run, _ = _under_load(mcmt, seconds, 0, lambda: None)
    return run


def beside(mcmt: Contender, domain: str, seconds: float, message: bytes = MESSAGE) -> Run:
    """A message of 10,000 tokens comes in between: those that it may have delayed."""
    blob = fan_out_message(TOKENS)
    submitted = 0.0

    def submit() -> None:
        nonlocal submitted
        time.sleep(SETTLING)
        submitted = time.time()
        mcmt.engine.send(blob, f"user@{domain}")

    run, last = _under_load(mcmt, seconds, TOKENS, submit, message)
    return [at for at in run if submitted <= at.dot <= last]


def _under_load(
    mcmt: Contender, seconds: float, others: int, meanwhile: Callable[[], None], message: bytes = MESSAGE
) -> tuple[Run, float]:
    """The load's messages, and when the last of the *others* pushes went out that *meanwhile* brings about."""
    mark = mcmt.gateway.mark()
    thread = threading.Thread(target=meanwhile)
    thread.start()
    sent = uvloop.run(send_at_rate(mcmt.engine.smtp_port, RATE, seconds, message=message))
    thread.join()
    pushes = mcmt.gateway.wait(mark, len(sent) + others, within=60, alive=mcmt.alive)
    at = {apns_id: stamp + RESOLUTION for apns_id, stamp in zip(pushes.ids, pushes.times, strict=True)}
    run = [Times(one.dot, one.accepted, at.pop(one.apns_id)) for one in sent]
    return run, max(at.values(), default=0.0)
