"""The XMPP component with the real process and Debian's ejabberd: whose users are pushed to, and stay subscribed.

docs/migrate.md shows the configuration that is run here.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcmt.channel import plugins
from mcmt.clock import SystemClock
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.errors import SpoolFull
from mcmt.intake.doors import Doors
from mcmt.intake.xmpp import service
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.spool.stored_registrations import StoredRegistrations
from tests.support.ejabberd import COMPONENT, HOST, SECRET, Ejabberd, ejabberd
from tests.support.engine_process import EngineProcess
from tests.support.simulator_process import Simulator, simulator
from tests.support.xmpp_server import JID, publish, xmpp_server
from tests.support.xmpp_users import user
from tests.unit.intake.server import ListSpool, make_settings

DOMAIN = "apn.example.com"


@pytest.fixture(scope="module")
def server() -> Iterator[Ejabberd]:
    with ejabberd() as running:
        yield running


def dropped(name: str) -> str:
    """What ejabberd writes when it lets go of a user's subscription."""
    return rf"rejected notification for {name}@.*disabling push"


def kept(name: str) -> str:
    """What it writes when it keeps it."""
    return rf"rejected notification for {name}@\S+ .*temporarily"


def component(port: int, **options: Any) -> dict[str, Any]:
    stanza = {
        "jid": COMPONENT,
        "secret": SECRET,
        "domain": DOMAIN,
        "servers": [HOST],
        "alert_title": "{sender}",
        **options,
    }
    return {"generate_bounces": False, "xmpp_component": {f"127.0.0.1:{port}": stanza}}


def connected(process: EngineProcess) -> bool:
    return all(one["connected"] for one in process.status()["components"])


async def wait(process: EngineProcess, condition: Any) -> None:
    await asyncio.to_thread(process.wait, condition, 30.0)


def by_hand(process: EngineProcess, owner: str, token: str) -> tuple[list[Any], list[Any]]:
    """What is said when a device is registered by command, and let go of again."""
    added = process.listing("registration", "add", owner, token, "--node", "n7", "--secret", "s7")
    return added, process.listing("registration", "remove", "n7")


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)  # lists have no event to wait for


def pushes(apple: Simulator, token: str) -> int:
    return sum(push["token"] == token for push in apple.received)


async def test_users_of_ejabberd_are_pushed_to_and_stay_subscribed(tmp_path: Path, server: Ejabberd) -> None:
    live, dead = "a1" * 32, "dead410000" + "7" * 54
    with simulator(tmp_path / "apple") as apple:
        process = EngineProcess(tmp_path / "engine", {DOMAIN: apple.stanza}, workers=2, **component(server.service))
        try:
            process.start()
            await wait(process, lambda: connected(process))
            for name, command, device, token in (
                ("bob", "register-push-apns", "device_id", live),
                ("carol", "v1-register-push", "node", dead),
            ):
                async with user(name, server.port) as phone:
                    given = await phone.register_device(command, token=token, **{device: "phone"})
                    await phone.enable_push(given["jid"], given["node"], given["secret"])
            async with user("alice", server.port) as alice:
                await alice.write("bob", "hello <&> é")
                await wait(process, lambda: pushes(apple, live) == 1)
                # The worker that holds the component: its successor connects, and knows the devices.
                os.kill(process.status()["workers"][0], signal.SIGKILL)
                await wait(process, lambda: not process.status()["missing"] and connected(process))
                await alice.write("bob", "again")
                await wait(process, lambda: pushes(apple, live) == 2)
                # While the component is away, ejabberd is told by nobody that bob has no device.
                assert await asyncio.to_thread(process.stop) == 0
                await alice.write("bob", "to nobody")
                await asyncio.to_thread(process.start)
                await wait(process, lambda: connected(process))
                await alice.write("bob", "and again")
                await wait(process, lambda: pushes(apple, live) == 3)
                # A device that is gone: the first push finds out, the second is refused.
                await alice.write("carol", "hello")
                await wait(process, lambda: len(process.listing("tokens", "list", DOMAIN)) == 1)
                await alice.write("carol", "hello?")
                await asyncio.to_thread(server.wait_log, dropped("carol"))
                await alice.write("carol", "hello??")
                await alice.write("bob", "the last one")
                await wait(process, lambda: pushes(apple, live) == 4)
            owners = {one["owner"]: one for one in process.listing("registration", "list")}
            # By hand: for whoever moves in with a table of devices.
            ((added,), (removed,)) = await asyncio.to_thread(by_hand, process, "dora@xmpp.test", "d0" * 32)
            assert await asyncio.to_thread(process.stop) == 0
        finally:
            if process.process is not None:
                process.kill()
        first = next(push for push in apple.received if push["token"] == live)
        assert pushes(apple, dead) == 1
    assert first["payload"] == '{"aps":{"alert":{"title":"alice@xmpp.test","body":"New message"},"sound":"default"}}'
    assert {owner: one["token"] for owner, one in owners.items()} == {"bob@xmpp.test": live, "carol@xmpp.test": dead}
    assert (added["node"], added["secret"], removed) == ("n7", "s7", {"removed": 1})
    assert "secret" not in {key for one in owners.values() for key, value in one.items() if value}
    assert "bob@xmpp.test" not in "".join(line for line in server.log.splitlines() if "disabling" in line)
    receptions = [line for line in process.mainlog if line[4] == "R"]
    assert {line[11] for line in receptions} == {"xmpp"}


async def test_while_nothing_can_be_kept_ejabberd_keeps_the_subscription(
    tmp_path: Path, server: Ejabberd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The component in this process, on a spool that can be held up; it waits 1 second where it would wait 25."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 1.0)
    spool, registrations = ListSpool(), StoredRegistrations.open(tmp_path)
    told: list[Attachment] = []
    settings = XmppSettings(
        host="127.0.0.1",
        port=server.service,
        jid=COMPONENT,
        secret=SECRET,
        domain=DOMAIN,
        servers=frozenset({HOST}),
    )
    channels = {"apn": plugins.load("apn"), "discard": plugins.load("discard")}
    doors = Doors(
        make_settings(xmpp=(settings,)),
        channels,
        spool,
        SystemClock(),
        secrets.randbits,
        registrations=registrations,
        watch=told.extend,
    )
    await doors.start()
    try:
        await until(lambda: bool(told) and told[-1].connected)
        async with user("erin", server.port) as erin:
            await erin.enable_push(COMPONENT, "e1" * 32)
        async with user("alice", server.port) as alice:
            spool.gate.clear()
            await alice.write("erin", "hello")
            await asyncio.to_thread(server.wait_log, kept("erin"))
            spool.gate.set()
            await until(lambda: len(spool.accepted) == 1)
            spool.failure = SpoolFull("full")
            await alice.write("erin", "hello?")
            await asyncio.to_thread(server.wait_log, kept("erin"), 2)
            spool.failure = None
            await alice.write("erin", "hello again")
            await until(lambda: len(spool.accepted) == 2)
    finally:
        spool.gate.set()
        await doors.drain(5.0)
        registrations.close()
    assert not re.search(dropped("erin"), server.log)


async def test_what_was_acknowledged_is_delivered_over_a_kill(tmp_path: Path) -> None:
    """A server's side made by hand pushes as fast as it is answered, and the engine is killed meanwhile."""
    with simulator(tmp_path / "apple") as apple:
        async with xmpp_server() as server:
            process = EngineProcess(
                tmp_path / "engine", {DOMAIN: apple.stanza}, **component(server.port, jid=JID, servers=["example.com"])
            )
            sent: dict[str, str] = {}
            try:
                for _ in range(3):
                    await asyncio.to_thread(process.start)
                    await asyncio.wait_for(server.attached.wait(), 30)
                    answered = len(server.answers) + 200
                    for _ in range(400):
                        token = f"{len(sent):064x}"
                        sent[server.send(publish(token, {"last-message-body": "x"}))] = token
                    await server.until(lambda: len(server.answers) >= answered, 60)  # noqa: B023 - awaited here
                    process.kill()
                    await asyncio.wait_for(server.lost.wait(), 30)
                await asyncio.to_thread(process.start)
                acknowledged = {sent[name] for name, said in server.answers.items() if said.type == "result"}
                assert len(acknowledged) >= 600
                await wait(process, lambda: acknowledged <= {push["token"] for push in apple.received})
                assert await asyncio.to_thread(process.stop) == 0
            finally:
                if process.process is not None:
                    process.kill()
    assert {said.error for said in server.answers.values()} <= {"", "wait"}
    assert set(Counter(line[2] for line in process.logged("D")).values()) == {1}
