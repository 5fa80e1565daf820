"""Table 2: the push channel alone, against other clients of the same nginx."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import installs
from tests.bench.gateway import AFTER_BODY, AT_ONCE, Gateway, gateway
from tests.bench.mail import payload
from tests.bench.pairs import interleaved, ratio
from tests.bench.profiles import profiled
from tests.bench.results import Goal, Profile, Sample, Table, median, spread
from tests.bench.setting import Setting
from tests.bench.usage import cpu_of, run

OURS = "mcmt"
H2LOAD, NODE_APN, AIOAPNS = "h2load", "@parse/node-apn", "aioapns"
GOALS = {H2LOAD: 0.5, NODE_APN: 4.0, AIOAPNS: 12.0}
START = 1000
"""Pushes of a run that tells what starting a program costs; the CPU of a measured run is what it takes beyond that."""
SAME = 30_000
"""Pushes with large bodies: few, and as many for all, since nginx spends more on each the more a connection had."""
CLIENTS = Path(__file__).parents[1] / "clients"
ROOT = Path(__file__).parents[3]
CLIENT_CORE, SINK_CORE = "0", "1"
PROFILED = 4
"""How many times as long the run is that is profiled: py-spy needs some time to begin."""
LIMIT = 120.0
"""Seconds that one run may take."""

Command = Callable[[int], Sequence[str]]
"""What to run for so many pushes."""


def measure(setting: Setting) -> Table:
    """Run it."""
    installs.debian("h2load", "taskset")
    folder = setting.below("push_channel")
    rows, goals, profiles = [], [], []
    for size, device in ((200, AT_ONCE), (4096, AFTER_BODY)):
        with gateway(folder / f"nginx-{size}", setting.certificates, device) as sink:
            subprocess.run(["taskset", "-pc", SINK_CORE, str(sink.worker)], check=True, stdout=subprocess.DEVNULL)
            file = folder / f"payload-{size}"
            file.write_bytes(payload(size))
            commands = _commands(setting, folder, sink.port, file)
            starts = {name: _cpu(command, START, sink) for name, command in commands.items()}
            samples = interleaved(
                {
                    name: _runner(commands[name], count, starts[name], sink)
                    for name, count in _counts(setting, size).items()
                },
                setting.say,
            )
            for name, theirs in samples.items():
                faster = ratio(samples, OURS, name)
                rows.append(
                    [
                        f"{size} bytes",
                        name,
                        spread([sample.rate for sample in theirs]),
                        f"{median([sample.cost for sample in theirs]):.1f}",
                        f"{median([sample.sink / sample.count for sample in theirs]) * 1e6:.1f}",
                        f"{faster:.2f}" if name != OURS else "",
                    ]
                )
                if name in GOALS:
                    text = f"{GOALS[name]:g} times {name}, {size} bytes"
                    goals.append(Goal(text, f"{faster:.2f} times", faster >= GOALS[name]))
            profiles.append(_profile(commands[OURS], PROFILED * _counts(setting, size)[OURS], size, folder))
    return Table(
        title="The push channel alone",
        how=(
            "One connection to the same nginx over TLS, 1,000 streams; the client on one core, nginx on the other. "
            "mcmt: `channels/apn` with the engine's objects around it (a delivery with its message for every push, the "
            "link that knows what is owed, an outcome for every answer), without queue, spool and log. `h2load` sends "
            "a thousand prepared requests in turn and counts the states of the answers. Pushes a second: from "
            "the first to the last request in nginx's log, median of 3, least and most in brackets; CPU by rusage, "
            "without what the program needs to start. nginx answers a push of 200 bytes when its header fields are "
            "there and one of 4,096 when its body is; where its CPU times the rate comes near one core, nginx is the "
            "limit. With bodies that it waits for it spends more on each the more the connection has had, hence "
            f"{SAME:,} a run."
        ),
        header=[
            "payload",
            "client",
            "pushes/s",
            "CPU a push, us",
            "nginx's CPU a push, us",
            "mcmt is so many times as fast",
        ],
        rows=rows,
        goals=goals,
        profiles=profiles,
    )


def _counts(setting: Setting, size: int) -> dict[str, int]:
    """How many pushes a run is for each client: some seconds, as fast as they are."""
    big = size > 1000
    return {
        OURS: setting.choose(SAME if big else 250_000, 20_000 if big else 40_000),
        H2LOAD: setting.choose(SAME if big else 500_000, 20_000 if big else 80_000),
        NODE_APN: setting.choose(SAME if big else 60_000, 10_000),
        AIOAPNS: setting.choose(15_000, 3_000),
    }


def _commands(setting: Setting, folder: Path, port: int, file: Path) -> dict[str, Command]:
    keys = setting.certificates
    both = folder / "client-with-key.pem"
    both.write_bytes(keys.client.read_bytes() + keys.client_key.read_bytes())
    paths = folder / "paths"
    paths.write_text("".join(f"https://127.0.0.1:{port}/3/device/{number:064x}\n" for number in range(1000)))
    node, python = installs.node_apn(), installs.aioapns()
    headers = {
        "apns-topic": "com.example.app",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1800000000",
        "apns-id": "01890a5d-ac96-774b-bcce-b302099a8057",
    }
    fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    ours = [sys.executable, "-m", "tests.bench.clients.push_channel", str(port)]
    return {
        OURS: lambda count: [*ours, str(count), str(file), str(keys.ca), str(keys.client), str(keys.client_key)],
        H2LOAD: lambda count: [
            "h2load",
            "-t1",
            "-c1",
            "-m1000",
            f"-n{count}",
            "-d",
            str(file),
            *fields,
            "-i",
            str(paths),
        ],
        NODE_APN: lambda count: [
            *("node", str(CLIENTS / "node_apn.js"), str(node), str(port), str(count), str(file)),
            *(str(keys.ca), str(keys.client), str(keys.client_key)),
        ],
        AIOAPNS: lambda count: [
            *(str(python), str(CLIENTS / "aioapns_client.py"), str(port), str(count), str(file)),
            *(str(keys.ca), str(both)),
        ],
    }


def _pinned(command: Sequence[str]) -> list[str]:
    return ["taskset", "-c", CLIENT_CORE, "env", "-C", str(ROOT), *command]


def _cpu(command: Command, count: int, sink: Gateway) -> float:
    mark = sink.mark()
    cpu = run(_pinned(command(count)), LIMIT)
    sink.wait(mark, count, within=10)
    return cpu


def _runner(command: Command, count: int, start: float, sink: Gateway) -> Callable[[], Sample]:
    def once() -> Sample:
        mark, sink_cpu = sink.mark(), cpu_of(sink.worker)
        cpu = run(_pinned(command(count)), LIMIT)
        pushes = sink.wait(mark, count, within=10)
        beyond = (cpu - start) * count / (count - START)
        return Sample(count, pushes.seconds, beyond, sink=cpu_of(sink.worker) - sink_cpu)

    return once


def _profile(command: Command, count: int, size: int, folder: Path) -> Profile:
    process = subprocess.Popen(_pinned(command(count)))
    time.sleep(0.2)  # taskset and env are Python by then
    return profiled(process.pid, folder, f"the channel alone, {size} bytes", lambda: process.wait(LIMIT))
