"""Apps register their devices as they did with the app servers that there were."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import fromstring

import pytest

from mcmt.spool.registration import DEVICES
from tests.support.xmpp_server import JID, Said, form, publish
from tests.unit.intake.xmpp.conftest import TOKEN, Attached, Start

BOB = "Bob@example.com/phone"


async def command(component: Attached, name: str, user: str = BOB, /, action: str = "", **fields: str) -> Said:
    given = {field.replace("_", "-"): value for field, value in fields.items()}
    inner = form("x", given) if fields else ""
    payload = f"<command xmlns='http://jabber.org/protocol/commands' node='{name}' action='{action or 'execute'}'>"
    return await component.server.ask(
        f"<iq type='set' to='{JID}' from='{user}' id='{{id}}'>{payload}{inner}</command></iq>"
    )


def told(said: Said) -> dict[str, str]:
    fields = fromstring(said.xml).iter("{jabber:x:data}field")
    return {field.get("var", ""): field.findtext("{jabber:x:data}value") or "" for field in fields}


@pytest.mark.parametrize(
    ("node", "fields"),
    [
        ("register-push-apns", {"token": TOKEN.upper(), "device_id": "d1"}),
        ("register-push-apns", {"token": base64.b64encode(bytes.fromhex(TOKEN)).decode()}),
        ("v1-register-push", {"type": "apns", "node": "d1", "token": TOKEN}),
    ],
)
async def test_a_device_is_registered_and_pushed_to(start: Start, node: str, fields: dict[str, str]) -> None:
    component = await start()
    said = await command(component, node, **fields)
    given = told(said)
    assert 'status="completed"' in said.xml
    assert given["jid"] == JID
    assert len(given["secret"]) >= 32
    push = publish(given["node"], {"last-message-body": "x"}, {"secret": given["secret"]})
    assert (await component.server.ask(push)).type == "result"
    assert [token for token, _ in component.sent] == [TOKEN]
    (kept,) = component.registrations.of_owner(JID, "bob@example.com")
    assert kept.device == ("d1" if len(fields) > 1 else "phone")


async def test_a_device_that_comes_again_keeps_its_node_and_gets_its_new_token(start: Start) -> None:
    component = await start()
    first = told(await command(component, "register-push-apns", token=TOKEN, device_id="d1"))
    second = told(await command(component, "register-push-apns", token="b2" * 32, device_id="d1"))
    other = told(await command(component, "register-push-apns", token=TOKEN, device_id="d2"))
    assert first == second != other
    assert [one.token for one in component.registrations.of_owner(JID, "bob@example.com")] == ["b2" * 32, TOKEN]


async def test_a_device_is_unregistered_by_its_owner_alone(start: Start) -> None:
    component = await start()
    given = told(await command(component, "register-push-apns", token=TOKEN, device_id="d1"))
    said = await command(component, "unregister-push-apns", "mallory@example.com/x", device_id="d1")
    assert (said.error, said.condition) == ("cancel", "item-not-found")
    assert (await command(component, "v1-unregister-push", type="apns", node="d1")).type == "result"
    said = await component.server.ask(publish(given["node"], None, {"secret": given["secret"]}))
    assert (said.error, said.condition) == ("cancel", "item-not-found")


async def test_without_a_form_one_is_given_and_a_command_may_be_cancelled(start: Start) -> None:
    component = await start()
    said = await command(component, "register-push-apns")
    assert 'status="executing"' in said.xml
    assert set(told(said)) == {"token", "device-id"}
    assert 'status="canceled"' in (await command(component, "register-push-apns", action="cancel")).xml


@pytest.mark.parametrize(
    ("node", "sender", "fields", "condition"),
    [
        ("register-push-apns", BOB, {"token": "no token"}, "bad-request"),
        ("register-push-apns", BOB, {"token": "abcd"}, "bad-request"),
        ("register-push-apns", BOB, {"token": TOKEN, "device_id": "x" * 201}, "bad-request"),
        ("v1-register-push", BOB, {"type": "fcm", "node": "d1", "token": TOKEN}, "not-acceptable"),
        ("register-push-fcm", BOB, {"token": TOKEN}, "item-not-found"),
        ("register-push-apns", "bob@example.net/x", {"token": TOKEN}, "forbidden"),
        ("register-push-apns", "example.com", {"token": TOKEN}, "forbidden"),
        ("unregister-push", BOB, {"device_id": "d9"}, "item-not-found"),
    ],
)
async def test_what_is_refused(start: Start, node: str, sender: str, fields: dict[str, str], condition: str) -> None:
    component = await start()
    said = await command(component, node, sender, **fields)
    assert (said.type, said.condition) == ("error", condition)
    assert component.registrations.page("", 0, 10) == []


async def test_nobody_has_more_devices_than_there_may_be(start: Start) -> None:
    component = await start()
    for number in range(DEVICES):
        component.register(f"n{number}", f"bob@{JID.partition('.')[2]}")
    said = await command(component, "register-push-apns", token=TOKEN, device_id="one more")
    assert (said.error, said.condition) == ("cancel", "not-allowed")
    assert len(component.registrations.page(JID, 0, 100)) == DEVICES
