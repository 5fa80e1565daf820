"""What an XMPP server is answered to its pushes: it lets go of a subscription by any error that is not ``wait``."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from mcmt.config.settings import IntakeSettings
from mcmt.errors import SpoolError, SpoolFull
from mcmt.intake.xmpp import service
from tests.support.xmpp_server import Said, note, publish
from tests.unit.intake.xmpp.conftest import DOMAIN, TOKEN, Start

OPTIONS = {"secret": "sec"}
SUMMARY = {"last-message-sender": "alice@example.com/res", "last-message-body": "hello <&> é", "message-count": "3"}


def told(said: Said) -> tuple[str, str, str]:
    return said.type, said.error, said.condition


async def test_a_push_is_answered_when_it_is_on_disk(start: Start) -> None:
    component = await start()
    component.register()
    component.spool.gate.clear()
    name = component.server.send(publish("n1", SUMMARY, OPTIONS))
    await asyncio.wait_for(component.spool.waiting.wait(), 20)
    assert component.server.answers == {}
    component.spool.gate.set()
    await component.server.until(lambda: name in component.server.answers)
    assert told(component.server.answers[name]) == ("result", "", "")
    assert component.sent == [(TOKEN, b'{"aps":{"alert":"New message","sound":"default"}}')]
    assert (component.headers["apns-push-type"], component.headers["apns-priority"]) == ("alert", "10")
    envelope = component.spool.accepted[0][0].envelope
    assert (envelope.protocol, envelope.peer, envelope.user) == ("xmpp", "127.0.0.1", "example.com")


async def test_an_empty_notification_wakes_the_app_without_a_word(start: Start) -> None:
    component = await start()
    component.register()
    for summary in (None, {"message-count": "1"}, {"last-message-body": "  "}):
        assert told(await component.server.ask(publish("n1", summary, OPTIONS)))[0] == "result"
    assert {payload for _, payload in component.sent} == {b'{"aps":{"content-available":1}}'}
    assert (component.headers["apns-push-type"], component.headers["apns-priority"]) == ("background", "5")


async def test_what_is_shown_is_the_configurations_to_say(start: Start) -> None:
    component = await start(
        alert_title="{sender} ({count}) {x}", alert_body="{body}", badge=True, sound="", mutable_content=True
    )
    component.register()
    await component.server.ask(publish("n1", SUMMARY, OPTIONS))
    await component.server.ask(publish("n1", {"last-message-body": "{sender}" * 5000 + "é"}, OPTIONS))
    first, second = (json.loads(payload)["aps"] for _, payload in component.sent)
    assert first == {
        "alert": {"title": "alice@example.com (3) {x}", "body": "hello <&> é"},
        "badge": 3,
        "mutable-content": 1,
    }
    assert second["alert"]["body"].startswith("{sender}{sender}")
    assert len(component.sent[1][1]) < 4096


async def test_the_longest_that_can_be_shown_is_not_too_large_for_apple(start: Start) -> None:
    text = ("{body}" * 33)[:200]
    component = await start(alert_title=text, alert_body=text, sound="é" * 200)
    component.register()
    summary = {"last-message-body": '😀"\n' * 9000, "last-message-sender": "é" * 2000 + "@example.com"}
    assert told(await component.server.ask(publish("n1", summary, OPTIONS))) == ("result", "", "")


async def test_a_node_may_be_the_device_token_itself(start: Start) -> None:
    component = await start()
    for stanza in (
        publish(TOKEN.upper(), SUMMARY),
        publish("anything", SUMMARY, {"device_id": "b2" * 32}),
        publish("c3" * 32, SUMMARY, sender="bob@example.com"),
    ):
        assert told(await component.server.ask(stanza)) == ("result", "", "")
    assert [token for token, _ in component.sent] == [TOKEN, "b2" * 32, "c3" * 32]


@pytest.mark.parametrize(
    ("stanza", "answer"),
    [
        # Nobody registered it: nothing will ever come of it.
        (publish("n2", SUMMARY, OPTIONS), ("error", "cancel", "item-not-found")),
        (publish("", SUMMARY), ("error", "cancel", "item-not-found")),
        (publish("abcdef", SUMMARY), ("error", "cancel", "item-not-found")),
        # A user speaks for nobody but himself.
        (publish("b2" * 32, SUMMARY, sender="mallory@example.com/x"), ("error", "cancel", "item-not-found")),
        (publish("n1", SUMMARY, OPTIONS, sender="mallory@example.com/x"), ("error", "auth", "forbidden")),
        (publish("n1", SUMMARY, {"secret": "other"}), ("error", "auth", "forbidden")),
        (publish("n1", SUMMARY, {"secret": "ü"}), ("error", "auth", "forbidden")),
        (publish("n1", SUMMARY), ("error", "auth", "forbidden")),
        # Not sure: the configuration may be wrong.
        (publish("n1", SUMMARY, OPTIONS, sender="example.net"), ("error", "wait", "not-allowed")),
        (publish("n1", SUMMARY, {**OPTIONS, "pushModule": "new"}), ("error", "wait", "resource-constraint")),
        (publish("n1", SUMMARY, {**OPTIONS, "topic": "lost"}), ("error", "wait", "resource-constraint")),
    ],
)
async def test_what_is_refused(start: Start, stanza: str, answer: tuple[str, str, str]) -> None:
    component = await start(apps={"chat": DOMAIN, "lost": "removed.example.com"})
    component.register()
    assert told(await component.server.ask(stanza)) == answer
    assert component.sent == []
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not component.spool.recorded:
            await asyncio.sleep(0.005)  # a list has no event to wait for
    assert [event.protocol for event in component.spool.recorded] == ["xmpp"]


async def test_a_token_that_is_gone_ends_the_subscription_until_it_is_registered_again(start: Start) -> None:
    component = await start()
    now = time.time()
    component.register(registered=now - 100)
    component.learn(TOKEN, now - 50)
    component.learn("b2" * 32, now - 50)
    assert told(await component.server.ask(publish("n1", SUMMARY, OPTIONS))) == ("error", "cancel", "item-not-found")
    assert told(await component.server.ask(publish("b2" * 32, SUMMARY))) == ("error", "cancel", "item-not-found")
    assert component.sent == []
    component.register(registered=now)
    assert told(await component.server.ask(publish("n1", SUMMARY, OPTIONS))) == ("result", "", "")
    assert [token for token, _ in component.sent] == [TOKEN]


@pytest.mark.parametrize("failure", [SpoolFull("full"), SpoolError("closed"), RuntimeError("a bug")])
async def test_what_cannot_be_kept_may_come_again(start: Start, failure: Exception) -> None:
    component = await start()
    component.spool.failure = failure
    assert told(await component.server.ask(publish(TOKEN, SUMMARY))) == ("error", "wait", "resource-constraint")
    component.spool.failure = None
    assert told(await component.server.ask(publish(TOKEN, SUMMARY))) == ("result", "", "")


async def test_nobody_is_answered_late(start: Start) -> None:
    component = await start(within=0.5)
    component.spool.gate.clear()
    names = [component.server.send(publish(TOKEN, SUMMARY)) for _ in range(3)]
    await component.server.until(lambda: len(component.server.answers) == 3)
    assert {told(component.server.answers[name]) for name in names} == {("error", "wait", "resource-constraint")}
    component.spool.gate.set()
    # Kept all the same, and not answered a second time: the server would take it for an error of ours.
    while told(await component.server.ask(publish(TOKEN, SUMMARY)))[0] != "result":
        pass  # a machine that slept for half a second has answered it so
    assert len(component.sent) >= 4
    assert service.ANSWER_WITHIN + 2 < 32


async def test_what_is_too_much_at_a_time_may_come_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PENDING", 5)
    component = await start()
    component.spool.gate.clear()
    for _ in range(8):
        component.server.send(publish(TOKEN, SUMMARY))
    await component.server.until(lambda: len(component.server.answers) == 3)
    assert {told(one) for one in component.server.answers.values()} == {("error", "wait", "resource-constraint")}
    component.spool.gate.set()
    await component.server.until(lambda: len(component.server.answers) == 8)
    assert len(component.sent) == 5


async def test_stanzas_at_work_count_in_the_memory_of_all_doors(start: Start) -> None:
    component = await start(intake=IntakeSettings(max_intake_bytes=60_000))
    large = publish(TOKEN, {"last-message-body": "x" * 30_000})
    assert told(await component.server.ask(large)) == ("error", "wait", "resource-constraint")
    assert told(await component.server.ask(publish(TOKEN, SUMMARY))) == ("result", "", "")


async def test_a_message_of_mod_push_offline_goes_to_every_device_of_its_recipient(start: Start) -> None:
    component = await start(alert_title="{sender}", alert_body="{body}")
    now = time.time()
    for node, token in (("n1", "a1" * 32), ("n2", "b2" * 32), ("n3", "dead" * 16), ("n4", "e4" * 32)):
        component.register(node, "carol@example.com", token, registered=now - (100 if node == "n3" else 0))
    component.learn("dead" * 16, now - 50)
    component.learn("e4" * 32, now - 50)
    component.register("other", "dora@example.com", "f5" * 32)
    component.server.say(note("hello <&> é"))
    component.server.say(note("", sender="alice@example.com/res"))
    # From whom users cannot be, or are not served, or have no device.
    for owner in ("carol@example.com/phone", "carol@example.net", "nobody@example.com"):
        component.server.say(note("no", owner=owner))
    await component.server.ask(publish("c3" * 32, SUMMARY))
    alert = '{"aps":{"alert":{"title":"alice@example.com","body":"hello <&> é"},"sound":"default"}}'.encode()
    quiet = b'{"aps":{"content-available":1}}'
    living = ("a1" * 32, "b2" * 32, "e4" * 32)
    assert component.sent[:-1] == [(token, payload) for payload in (alert, quiet) for token in living]


async def test_what_is_kept_when_the_engine_stops_is_answered_and_nothing_else_is_taken(start: Start) -> None:
    component = await start()
    component.spool.gate.clear()
    first = component.server.send(publish(TOKEN, SUMMARY))
    await asyncio.wait_for(component.spool.waiting.wait(), 20)
    draining = asyncio.ensure_future(component.drain(20.0))
    await asyncio.sleep(0)
    second = component.server.send(publish(TOKEN, SUMMARY))
    await component.server.until(lambda: second in component.server.answers)
    component.spool.gate.set()
    await draining
    assert told(component.server.answers[first]) == ("result", "", "")
    assert told(component.server.answers[second]) == ("error", "wait", "resource-constraint")
    assert len(component.sent) == 1
