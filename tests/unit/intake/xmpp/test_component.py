"""The component's connection: made, lost, made again; what it answers that is no push; and what ends it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from mcmt.channel import plugins
from mcmt.clock import SystemClock
from mcmt.config.settings import Settings
from mcmt.config.xmpp_settings import XmppSettings
from mcmt.intake.doors import Doors
from mcmt.intake.xmpp import component as module
from mcmt.spool.registration import Registration
from mcmt.spool.stored_registrations import StoredRegistrations
from tests.support.xmpp_server import JID, SECRET, SERVER, publish, xmpp_server
from tests.unit.intake.server import ListSpool, make_settings
from tests.unit.intake.xmpp.conftest import DOMAIN, TOKEN, Attached, Start

PUSH = publish(TOKEN, {"last-message-body": "x"})
BOMB = (
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='&b;'>"
)


def query(kind: str, payload: str, sender: str = "bob@example.com/phone") -> str:
    return f"<iq type='{kind}' to='{JID}' from='{sender}' id='{{id}}'>{payload}</iq>"


async def state(component: Attached, *, connected: bool) -> str:
    """The reason that is told when the component is, or is not, connected."""
    async with asyncio.timeout(20):
        while not component.standings or component.standings[-1].connected is not connected:
            await asyncio.sleep(0.005)  # told by a call
    return component.standings[-1].reason


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOONEST", 0.01)


async def test_it_says_what_it_is_and_answers_a_ping(start: Start) -> None:
    server = (await start()).server
    said = await server.ask(query("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
    assert said.type == "result"
    for part in ('category="pubsub"', 'type="push"', 'var="urn:xmpp:push:0"', 'var="urn:xmpp:ping"'):
        assert part in said.xml
    commands = "http://jabber.org/protocol/commands"
    said = await server.ask(query("get", f"<query xmlns='http://jabber.org/protocol/disco#items' node='{commands}'/>"))
    assert 'node="register-push-apns"' in said.xml
    assert 'node="v1-register-push"' in said.xml
    said = await server.ask(
        query("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='register-push-apns'/>")
    )
    assert 'type="command-node"' in said.xml
    assert (await server.ask(query("get", "<ping xmlns='urn:xmpp:ping'/>"))).type == "result"
    said = await server.ask(query("get", "<query xmlns='jabber:iq:version'/>"))
    assert (said.type, said.error, said.condition) == ("error", "cancel", "service-unavailable")


async def test_answers_errors_presences_and_bounces_are_not_answered(start: Start) -> None:
    component = await start()
    for stanza in (
        f"<iq type='result' to='{JID}' from='example.com' id='a'/>",
        f"<iq type='error' to='{JID}' from='example.com' id='b'><error type='cancel'/></iq>",
        f"<presence type='subscribe' to='{JID}' from='mallory@example.com'/>",
        f"<message type='error' to='{JID}' from='example.com'><body>x</body></message>",
        f"<message to='{JID}' from='mallory@example.com/x'><body>x</body></message>",
        "<nothing xmlns='of:ours'/>",
    ):
        component.server.say(stanza)
    assert (await component.server.ask(PUSH)).type == "result"
    assert len(component.server.answers) == 1


async def test_a_server_that_was_away_is_connected_to_again_and_the_devices_are_known(start: Start) -> None:
    component = await start()
    component.register("n1", secret="")
    server = component.server
    assert await state(component, connected=True) == ""
    await server.stop()
    assert await state(component, connected=False)
    await server.start(server.port)
    await asyncio.wait_for(server.attached.wait(), 20)
    assert (await server.ask(publish("n1", {"last-message-body": "x"}))).type == "result"
    assert server.connections == 2
    assert await state(component, connected=True) == ""


async def test_a_wrong_secret_is_told_and_tried_again_now_and_then(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        component = await start(wait=False, secret="other-918273")
        async with asyncio.timeout(20):
            while component.server.refused < 3:
                await asyncio.sleep(0.005)  # attempts have no event
    assert await state(component, connected=False) == "it said not-authorized"
    ours = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(ours) == 1, "a line for each attempt would fill the disk"
    assert "918273" not in caplog.text


async def test_a_dtd_ends_the_connection_before_it_is_read(start: Start) -> None:
    """Whatever listens there: entities grow from octets to gigabytes."""
    got: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(4096))
        writer.write(BOMB.encode())
        got.append(await reader.read(4096))
        writer.close()
        over.set()

    hostile = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        component = await start(wait=False, port=hostile.sockets[0].getsockname()[1])
        await asyncio.wait_for(over.wait(), 20)
        assert await state(component, connected=False) == "it did not begin with a stream's first tag"
        assert b"handshake" not in b"".join(got)
    finally:
        hostile.close()


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("<iq><not-closed></iq>", "what it sent is not XML"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "what it sent is not XML"),
        ("<iq>&a;</iq>", "what it sent is not XML"),
        ("<iq>" + "x" * 1_000_000, "it sent a stanza past max_stanza_size"),
        ("<a>" * 300_000, "it sent a stanza past max_stanza_size"),
        ("</stream:stream>", "it closed the connection"),
    ],
)
async def test_what_ends_the_connection_costs_nothing_more(
    start: Start, octets: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    component = await start()
    server = component.server
    server.say(octets)
    async with asyncio.timeout(20):
        while server.connections < 2 or not server.attached.is_set():
            await asyncio.sleep(0.005)  # connections are counted
    assert reason in [one.reason for one in component.standings]
    assert (await server.ask(PUSH)).type == "result"
    assert not [record for record in caplog.records if record.name.startswith("slixmpp") and record.levelno > 20]


def test_without_slixmpp_the_error_names_the_extra() -> None:
    """In a process of its own, where slixmpp cannot be imported; without the stanza nobody tries to."""
    text = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "slixmpp":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
import mcmt.intake.doors as doors
assert not [name for name in sys.modules if name.startswith("slixmpp.")]
try:
    doors._xmpp_components()
except doors.ListenError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "xmpp_component needs slixmpp: pip install 'mcmt[xmpp]'"


async def test_a_reload_changes_a_component_and_leaves_one_that_is_as_it_was_alone(tmp_path: Path) -> None:
    """A changed one leaves before it comes by its new settings: a JID is connected once."""
    registrations, spool = StoredRegistrations.open(tmp_path), ListSpool()
    assert registrations.put(
        Registration(
            service=JID, node="n1", owner=f"bob@{SERVER}", token=TOKEN, secret="", device="n1", registered=time.time()
        )
    )
    told: list[list[str]] = []
    async with xmpp_server() as server:

        def settings(*titles: str) -> Settings:
            common = XmppSettings(
                host="127.0.0.1", port=server.port, jid=JID, secret=SECRET, domain=DOMAIN, servers=frozenset({SERVER})
            )
            return make_settings(xmpp=tuple(replace(common, alert_title=title) for title in titles))

        async def ask() -> bytes:
            said = await server.ask(publish("n1", {"last-message-body": "x"}))
            assert said.type == "result"
            return spool.accepted[-1][0].parts[-1].content

        doors = Doors(
            settings("one"),
            {"apn": plugins.load("apn"), "discard": plugins.load("discard")},
            spool,
            SystemClock(),
            secrets.randbits,
            registrations=registrations,
            watch=lambda attachments: told.append([one.jid for one in attachments]),
        )
        await doors.start()
        try:
            await asyncio.wait_for(server.attached.wait(), 20)
            doors.reload(doors.prepare(settings("one")))
            assert b'"one"' in await ask()
            assert server.connections == 1
            server.attached.clear()
            doors.reload(doors.prepare(settings("two")))
            await asyncio.wait_for(server.attached.wait(), 20)
            assert b'"two"' in await ask()
            assert server.connections == 2
            server.lost.clear()
            doors.reload(doors.prepare(settings()))
            await asyncio.wait_for(server.lost.wait(), 20)
            assert told[-1] == []
        finally:
            await doors.drain(5.0)
            registrations.close()
