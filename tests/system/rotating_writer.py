"""The event log on a real spool, under a steady load of events, to be killed and started again.

    python -m tests.system.rotating_writer FOLDER RUN SECONDS RATE [SIZE]

Two loggers write every event. Each 10 ms a burst of events is recorded; SIGHUP reopens the files. At the end, or when
SIGTERM comes, a line of JSON on stdout tells what was done. ``recorded N`` is said whenever the spool has N events.
RUN is part of every event's id, so that the lines tell which run they are from. SIZE 0: no rotation.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from channels.apn import LOGGER
from mcmt.clock import SystemClock
from mcmt.config.settings import EventLogSettings, RotateSettings, Settings, SpoolSettings
from mcmt.eventlog.loggers import build_loggers
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import Event, Kind
from mcmt.spool.log_memory import StoredLogMemory
from mcmt.spool.sqlite import SqliteSpool
from mcmt.spool.state import StateStore

TICK = 0.01


def settings(folder: Path, size: int) -> Settings:
    rotate = RotateSettings(size=size, every=None, keep=None) if size else None
    apn = EventLogSettings(
        name="apn_logger.one",
        channel="apn",
        logfile=folder / "apnlog.ec",
        delivery_format=LOGGER.delivery,
        tempfail_format=LOGGER.tempfail,
        permfail_format=LOGGER.permfail,
        heartbeat_format=LOGGER.heartbeat,
        heartbeat=0,
        rotate=rotate,
    )
    main = EventLogSettings(
        name="ec_logger.one", channel=None, logfile=folder / "mainlog.ec", heartbeat=0, rotate=rotate
    )
    return Settings(
        file=folder / "mcmt.yaml",
        hostname="mx.example.com",
        workers=1,
        spool=SpoolSettings(path=folder / "spool"),
        listen=(),
        domains={},
        channel_loggers=(apn,),
        mainlog=(main,),
        rejectlog=(),
        control_socket=folder / "control.sock",
    )


def events(run: int, start: int, count: int) -> list[Event]:
    model = Event(
        kind=Kind.DELIVERY,
        time=time.time(),
        batch_id="018bcfe568007123a8b9c0d1",
        channel="apn",
        domain="apn.example.com",
        sender="app@example.com",
        recipient="user42@apn.example.com",
        token="ab" * 32,
        size=187,
        remote_address="17.188.1.2",
    )
    replace = msgspec.structs.replace
    return [
        replace(model, id=f"{run}-{number}", remote_id=f"018bcfe5-6800-7123-a8b9-{number * 7919 % 16**12:012x}")
        for number in range(start, start + count)
    ]


async def main(folder: Path, run: int, seconds: float, rate: int, size: int) -> None:
    config = settings(folder, size)
    spool = await SqliteSpool.open(config.spool.path)
    told: list[str] = []
    state = StateStore.open(config.spool.path)
    writer = EventLogWriter(StoredLogMemory(state), build_loggers(config), SystemClock(), told.append)
    writer.add("0", spool)
    await writer.start()
    spool.on_events(writer.wake)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    reopening: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: reopening.add(loop.create_task(writer.reopen())))
    # The last event of each burst, and how long it takes from the spool's answer to both files.
    begun: dict[str, float] = {}
    waits: list[float] = []

    def written(logger: str, line: str, event: Event) -> None:
        if logger == "ec_logger.one" and event.id in begun:
            waits.append(time.monotonic() - begun.pop(event.id))

    writer.follow(written)
    print("writing", flush=True)
    recorded, started, steps = 0, time.monotonic(), int(rate * TICK)
    while not ended.is_set() and time.monotonic() - started < seconds:
        burst = events(run, recorded, steps)
        begun[burst[-1].id] = time.monotonic()
        await spool.record(burst)
        recorded += steps
        if recorded % (5 * steps) == 0:
            print(f"recorded {recorded}", flush=True)
        await asyncio.sleep(max(0.0, started + recorded / rate - time.monotonic()))
    await writer.flushed()
    took = time.monotonic() - started
    await writer.stop()
    await spool.close()
    state.close()
    waits.sort()
    print(
        json.dumps(
            {
                "recorded": recorded,
                "rate": round(recorded / took),
                "cpu": round(time.process_time(), 2),
                "p50_ms": round(1000 * waits[len(waits) // 2], 2) if waits else None,
                "p99_ms": round(1000 * waits[len(waits) * 99 // 100], 2) if waits else None,
                "max_ms": round(1000 * waits[-1], 2) if waits else None,
                "told": told,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
