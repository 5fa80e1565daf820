"""Every door goes on by a configuration that is read again, with one process and with two."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import xmlrpc.client
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mcmt.intake.http.tokens import hash_of
from tests.support.engine_process import EngineProcess, apn_domain, engine
from tests.support.old_sender import OldSender, enhanced, token
from tests.support.tls import Certificates, make_certificates
from tests.system.test_reload import WORKERS, edit, reload

DOMAIN = "apn.example.com"
OTHER = "other.example.com"
KEY, NEW_KEY = "mcmt_" + "k" * 43, "mcmt_" + "n" * 43
PUSH = {"aps": {"alert": "hello"}}


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Certificates, Certificates]:
    """Certificates of two authorities."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    return make_certificates(tmp_path / "one"), make_certificates(tmp_path / "two")


def doors(server: Certificates, clients: Certificates) -> dict[str, Any]:
    """Every door; *server*: whose certificates are shown. *clients*: whose are good."""
    shown = {"tls_certificate": str(server.server), "tls_key": str(server.server_key)}
    gateway = {**shown, "client_ca": str(clients.ca), "domain": DOMAIN, "feedback": "127.0.0.1:0"}
    return {
        "apns_gateway": {"listen": {"127.0.0.1:0": gateway}},
        "pyapns": {"listen": {"127.0.0.1:0": {"sandbox": {"app": DOMAIN}}}},
        "propeller": {"listen": {"127.0.0.1:0": {"auth_token": "before", "topics": {"old": DOMAIN}}}},
        "http_listener": {"listen": {"127.0.0.1:0": shown}, "tokens": {"shop": {"hash": hash_of(KEY)}}},
    }


def running(folder: Path, server: Certificates, workers: int) -> contextlib.AbstractContextManager[EngineProcess]:
    domains = {name: apn_domain(9, server, generate_bounces=False) for name in (DOMAIN, OTHER)}
    return engine(folder, domains, workers=workers, **doors(server, server))


def https(process: EngineProcess, server: Certificates) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(server.ca))
    return http.client.HTTPSConnection("localhost", process.doors["http_listener"], timeout=20, context=context)


def ask(connection: http.client.HTTPConnection, path: str, body: str, **headers: str) -> int:
    connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def post(connection: http.client.HTTPConnection, key: str) -> int:
    parts = [{"media_type": "message/vnd.msys.apn", "json": PUSH, "tokens": [token(1)]}]
    body = json.dumps({"to": [f"user@{DOMAIN}"], "parts": parts})
    return ask(connection, "/v1/messages", body, Authorization=f"Bearer {key}", Content_Type="application/json")


def push(connection: http.client.HTTPConnection, secret: str, topic: str) -> int:
    form = urlencode({"auth_token": secret, "title": "x", "topic": topic, "token": token(2)})
    return ask(connection, "/post", form, Content_Type="application/x-www-form-urlencoded")


@WORKERS
def test_every_door_goes_on_by_the_new_settings_on_open_connections_too(
    tmp_path: Path, pairs: tuple[Certificates, Certificates], workers: int
) -> None:
    """A token that is taken back serves no further request; a certificate is seen at the next handshake; what is added
    is served; a sender whose domain is another one by now hears what was the last that was taken."""
    first, second = pairs
    with contextlib.ExitStack() as open_now:
        process = open_now.enter_context(running(tmp_path / "engine", first, workers))
        gateway = ("127.0.0.1", process.gateway_port)
        shop = open_now.enter_context(contextlib.closing(https(process, first)))
        propeller = open_now.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", process.doors["propeller"], timeout=20))
        )
        url = f"http://127.0.0.1:{process.doors['pyapns']}/"
        pyapns = open_now.enter_context(xmlrpc.client.ServerProxy(url, allow_none=True))
        sender = OldSender(gateway, first.ca, first.client, first.client_key)
        open_now.callback(sender.close)
        assert post(shop, KEY) == 202
        assert push(propeller, "before", "old") == 200
        pyapns.provision("new", "certificate", "sandbox")
        with pytest.raises(xmlrpc.client.Fault):
            pyapns.notify("new", token(3), PUSH)
        sender.send(enhanced(token(4), 4))
        sockets = shop.sock, propeller.sock

        def change(document: dict[str, Any]) -> None:
            document.update(doors(second, first))
            document["pyapns"]["listen"]["127.0.0.1:0"]["sandbox"]["new"] = DOMAIN
            document["propeller"]["listen"]["127.0.0.1:0"] = {"auth_token": "after", "topics": {"new": DOMAIN}}
            document["http_listener"]["tokens"] = {"other": {"hash": hash_of(NEW_KEY)}}

        edit(process, change)
        told = json.loads(reload(process, "--json").stdout)
        assert told["restart"] == []
        assert {
            'apns_gateway.listen."127.0.0.1:0".tls_certificate',
            'pyapns.listen."127.0.0.1:0".sandbox',
            'propeller.listen."127.0.0.1:0".auth_token',
            'http_listener.listen."127.0.0.1:0".tls_key',
            "http_listener.tokens.shop",
            "http_listener.tokens.other",
        } <= set(told["options"])
        assert post(shop, KEY) == 401
        assert post(shop, NEW_KEY) == 202
        assert push(propeller, "before", "new") == 401
        assert push(propeller, "after", "new") == 200
        assert push(propeller, "after", "old") == 400
        assert (shop.sock, propeller.sock) == sockets
        pyapns.notify("new", token(3), PUSH)
        with contextlib.closing(https(process, second)) as later:
            assert post(later, NEW_KEY) == 202
        OldSender(gateway, second.ca, first.client, first.client_key).close()

        # The sender's connection has outlived the certificate; its domain, it does not.
        sender.send(enhanced(token(5), 5))
        process.wait(lambda: sum("apns" in line and line[4] == "R" for line in process.mainlog) == 2)
        edit(process, lambda document: document["apns_gateway"]["listen"]["127.0.0.1:0"].update(domain=OTHER))
        reload(process)
        answer = sender.answer()
        assert answer is not None
        assert (answer.status, answer.identifier) == (10, 5)


@WORKERS
def test_a_certificate_of_any_door_that_cannot_be_loaded_changes_nothing_anywhere(
    tmp_path: Path, pairs: tuple[Certificates, Certificates], workers: int
) -> None:
    first, _ = pairs
    with running(tmp_path / "engine", first, workers) as process:
        for door in ("http_listener", "apns_gateway"):

            def change(document: dict[str, Any], door: str = door) -> None:
                document.update(doors(first, first))
                document[door]["listen"]["127.0.0.1:0"]["tls_certificate"] = str(tmp_path / f"{door}.pem")
                document["http_listener"]["tokens"]["other"] = {"hash": hash_of(NEW_KEY)}

            edit(process, change)
            told = reload(process, code=2)
            assert f"{door}.pem" in told.stderr
            assert "nothing was changed" in told.stderr
            with contextlib.closing(https(process, first)) as client:
                assert post(client, NEW_KEY) == 401
                assert post(client, KEY) == 202
