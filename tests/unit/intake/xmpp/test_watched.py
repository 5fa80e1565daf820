"""What those who watch a domain are told of the stanzas that a component gets and answers."""

from __future__ import annotations

import asyncio
import base64

from mcmt.clock import SystemClock
from tests.support.watching import Watcher
from tests.support.xmpp_server import SECRET, note, publish
from tests.unit.intake.xmpp.conftest import DOMAIN, TOKEN, Attached, Start
from tests.unit.intake.xmpp.test_commands import command, told

SUMMARY = {"last-message-sender": "alice@example.com/res", "last-message-body": "hello"}


def watch(component: Attached, domain: str = DOMAIN, *, bodies: bool = True) -> Watcher:
    watcher = Watcher(domain, SystemClock(), bodies=bodies)
    assert component.tracing is not None
    component.tracing.watched.update(watcher.tracing.watched)
    return watcher


async def test_a_push_and_its_answer_are_shown_without_the_secret(start: Start) -> None:
    component = await start(apps={"other": "other.example.com"})
    component.register(secret="very-secret-indeed")
    watcher, other = watch(component), watch(component, "other.example.com")
    assert (await component.server.ask(publish("n1", SUMMARY, {"secret": "very-secret-indeed"}))).type == "result"
    assert (await component.server.ask(publish("n1", SUMMARY, {"secret": "very-wrong-indeed"}))).type == "error"
    asked, answered, again, refused = watcher.lines()
    assert (asked.protocol, asked.way, asked.what, asked.text) == ("xmpp", "received", "request", "iq set")
    assert dict(asked.fields)["from"] == "example.com"
    assert "hello" in asked.body
    assert (answered.way, answered.what, answered.text) == ("sent", "answer", "iq result")
    assert asked.connection == answered.connection == again.connection
    assert refused.text == "iq error"
    assert "the secret is not that of the node" in refused.body
    everything = " ".join(str(line) for line in (asked, answered, again, refused))
    assert "very-" not in everything
    assert SECRET not in everything
    assert not other.lines()
    await component.server.ask(publish("n1", SUMMARY, {"secret": "very-secret-indeed", "topic": "other"}))
    assert [line.what for line in other.lines()] == ["request", "answer"]
    assert not watcher.lines()


async def test_a_registration_is_shown_without_what_it_gives_and_is_given(start: Start) -> None:
    component = await start()
    watcher = watch(component)
    token = base64.b64encode(bytes.fromhex(TOKEN)).decode()
    given = told(await command(component, "register-push-apns", token=token))
    await command(component, "register-push-apns", token=TOKEN, device_id="d2")
    everything = " ".join(line.body for line in watcher.lines())
    assert given["node"] in everything
    assert given["secret"] not in everything
    assert token not in everything
    assert TOKEN not in everything
    assert f"{TOKEN[:4]}...{TOKEN[-4:]}" in everything


async def test_a_message_has_no_answer_and_without_bodies_its_length_is_shown(start: Start) -> None:
    component = await start()
    component.register(owner="carol@example.com")
    watcher = watch(component, bodies=False)
    component.server.say(note("hello"))
    await asyncio.wait_for(component.spool.waiting.wait(), 20)
    (line,) = watcher.lines()
    assert (line.what, line.text.split()[0], line.body) == ("request", "message", "")
    assert line.octets
