"""What a client of pyapns provisions, where domains are made of it: what is asked for, and what is refused how."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mcmt.config.made_settings import MadeDomain, MakeDomains, made_name
from mcmt.errors import BusLost, ControlError, MessageError, SpoolUnusable
from mcmt.intake.pyapns.certificate import read_push_certificate
from tests.support.push_certificate import push_certificate
from tests.unit.intake.requests.conftest import Server, Start
from tests.unit.intake.requests.test_pyapns import HELLO, NIL, TOKEN, call, fault

SUFFIX = "apps.example.com"
MAKING = MakeDomains(suffix=SUFFIX)
ERROR = fault(8002, "error")
LATER = fault(500, "Connection to the APNS server could not be made.")


class Maker:
    """Makes domains as the engine does, of a stanza that is there."""

    def __init__(self) -> None:
        self.made: list[tuple[MadeDomain, bytes]] = []
        self.failure: Exception | None = None
        self.server: Server | None = None

    async def __call__(self, made: MadeDomain, pem: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.made.append((made, pem))
        assert self.server is not None
        smtp = self.server.doors.smtp
        settings = smtp._settings
        stanza = replace(settings.domains["apn.example.com"], name=made.domain)
        domains = {**settings.domains, made.domain: stanza}
        settings = replace(settings, domains=domains, made={**settings.made, made.domain: made})
        self.server.doors.reload(self.server.doors.prepare(settings))


@pytest.fixture
def maker() -> Maker:
    return Maker()


async def served(start: Start, maker: Maker, making: MakeDomains = MAKING, **options: Any) -> Server:
    maker.server = await start(make=maker, make_domains=making, **{"sandbox": {}, "production": {}, **options})
    return maker.server


async def provision(server: Server, certificate: str, app: str = "myapp", environment: str = "sandbox") -> bytes:
    _, body = await server.post(server.pyapns, call("provision", app, certificate, environment, 15))
    return body


async def test_an_app_without_a_domain_gets_one_and_pushes_by_it(start: Start, maker: Maker) -> None:
    server = await served(start, maker)
    assert await provision(server, push_certificate("com.example.one")) == NIL
    ((made, pem),) = maker.made
    assert (made.app_id, made.environment, made.suffix, made.topic) == ("myapp", "sandbox", SUFFIX, "com.example.one")
    assert pem.count(b"-----BEGIN CERTIFICATE-----") == pem.count(b"-----BEGIN PRIVATE KEY-----") == 1
    _, body = await server.post(server.pyapns, call("notify", "myapp", TOKEN, HELLO))
    assert body == NIL
    ((_, (delivery,), _),) = server.spool.accepted
    assert delivery.domain == f"myapp.sandbox.{SUFFIX}"


async def test_what_is_provisioned_again_is_there_and_another_certificate_takes_its_place(
    start: Start, maker: Maker
) -> None:
    server = await served(start, maker)
    first, second = push_certificate(), push_certificate()
    for _ in range(3):
        assert await provision(server, first) == NIL
    assert len(maker.made) == 1
    assert await provision(server, second) == NIL
    assert await provision(server, first) == NIL
    digests = [made.certificate for made, _ in maker.made]
    assert digests[0] == digests[2] != digests[1]


async def test_an_app_that_the_configuration_has_is_left_to_it(start: Start, maker: Maker) -> None:
    server = await served(start, maker, sandbox={"myapp": "apn.example.com"})
    assert await provision(server, "/no/such/file") == NIL
    assert await provision(server, push_certificate(), environment="production") == NIL
    assert [made.environment for made, _ in maker.made] == ["production"]


async def test_the_topic_is_the_subjects_uid_else_the_first_of_apples_extension(start: Start, maker: Maker) -> None:
    server = await served(start, maker)
    for app, pem in (
        ("both", push_certificate("com.example.uid", topics=["com.example.first", "com.example.first.voip"])),
        ("extension", push_certificate("", topics=["com.example.first", "com.example.first.voip"])),
    ):
        assert await provision(server, pem, app) == NIL
    assert [made.topic for made, _ in maker.made] == ["com.example.uid", "com.example.first"]


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", "is no certificate"),
        (push_certificate(with_key=False), "has no private key"),
        (push_certificate(other_key=True), "has the key of another certificate"),
        (push_certificate(passphrase=b"secret"), "passphrase"),
        (push_certificate(begin=-30, days=-1), "has expired"),
        (push_certificate(begin=1), "is not valid yet"),
        (push_certificate(environments=["production"]), "is for production, not for sandbox"),
        (push_certificate(""), "names no topic"),
        (push_certificate("com.example\r\napns-id: 1"), "names no topic, but"),
        (push_certificate() + "x" * 64 * 1024, "is larger than"),
        ("/etc/hostname", "set certificate_folder"),
    ],
)
async def test_what_cannot_be_pushed_with_is_8002_with_its_reason_in_the_reject_log(
    start: Start, maker: Maker, certificate: str, reason: str
) -> None:
    server = await served(start, maker)
    assert await provision(server, certificate) == ERROR
    assert maker.made == []
    _, body = await server.post(server.pyapns, call("notify", "myapp", TOKEN, HELLO))
    assert body == fault(404, "The app_id specified has not been provisioned.")
    await server.doors.drain(0.0)
    (event,) = server.spool.recorded
    assert reason in event.text
    assert "PRIVATE" not in event.text


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (MessageError(554, "5.3.5", "100 domains are made"), ERROR),
        (ControlError("worker 1 is being started"), LATER),
        (BusLost("the other process ended"), LATER),
        (SpoolUnusable("the disk is full"), LATER),
    ],
)
async def test_what_cannot_be_made_leaves_all_as_it_was(
    start: Start, maker: Maker, failure: Exception, told: bytes
) -> None:
    server = await served(start, maker)
    assert await provision(server, push_certificate()) == NIL
    maker.failure = failure
    assert await provision(server, push_certificate()) == told
    assert await provision(server, push_certificate(), "other") == told
    _, body = await server.post(server.pyapns, call("notify", "myapp", TOKEN, HELLO))
    assert body == NIL
    _, body = await server.post(server.pyapns, call("notify", "other", TOKEN, HELLO))
    assert body == fault(404, "The app_id specified has not been provisioned.")


async def test_a_path_is_opened_within_the_folder_that_is_named_for_it_and_nowhere_else(
    start: Start, maker: Maker, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "push", tmp_path / "push-of-others.pem"
    folder.mkdir()
    pem = push_certificate()
    (folder / "app.pem").write_text(pem)
    outside.write_text(pem)
    (folder / "link.pem").symlink_to(outside)
    (folder / "inner.pem").symlink_to(folder / "app.pem")
    os.mkfifo(folder / "pipe.pem")
    server = await served(start, maker, replace(MAKING, certificate_folder=folder))
    for number, path in enumerate((folder / "app.pem", folder / "inner.pem")):
        assert await provision(server, str(path), f"app{number}") == NIL
    refused = (outside, folder / "link.pem", folder / ".." / outside.name, folder, folder / "pipe.pem", folder / "none")
    for name in (*map(str, refused), "app.pem", ""):
        assert await provision(server, name, "refused") == ERROR
    assert [made.app_id for made, _ in maker.made] == ["app0", "app1"]
    # The file is read each time: what is renewed in its place is taken.
    (folder / "app.pem").write_text(push_certificate())
    assert await provision(server, str(folder / "app.pem"), "app0") == NIL
    assert len({made.certificate for made, _ in maker.made}) == 2


GOOD = push_certificate(topics=["com.example.app", "com.example.app.voip"])
DER = ssl.PEM_cert_to_DER_cert(GOOD[: GOOD.index("-----BEGIN EC")])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_stands_in_a_certificate_it_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    der = bytearray(DER)
    for at, octet in changes:
        der[at] = octet
    pem = ssl.DER_cert_to_PEM_cert(bytes(der)) + GOOD[GOOD.index("-----BEGIN EC") :]
    with contextlib.suppress(MessageError):
        read = read_push_certificate(pem, None, "sandbox", time.time())
        assert read.topic.isascii()
        assert "PRIVATE" not in repr(read)


async def test_feedback_of_a_made_domain_is_told_and_cleared(start: Start, maker: Maker) -> None:
    server = await served(start, maker)
    await provision(server, push_certificate())
    assert await server.call("feedback", "myapp") == []
    server.learn(TOKEN)
    server.gone.tokens[:] = [replace(one, domain=made_name("myapp", "sandbox", SUFFIX)) for one in server.gone.tokens]
    ((_, token),) = await server.call("feedback", "myapp")
    assert token == TOKEN
    await server.told(0)


async def test_an_app_whose_domain_was_let_go_of_is_refused_and_never_404_and_is_made_again(
    start: Start, maker: Maker
) -> None:
    server = await served(start, maker)
    pem = push_certificate()
    await provision(server, pem)
    settings = replace(server.doors.smtp._settings, made={})
    server.doors.reload(server.doors.prepare(settings))
    _, body = await server.post(server.pyapns, call("notify", "myapp", TOKEN, HELLO))
    assert body == ERROR
    assert await provision(server, pem) == NIL
    assert len(maker.made) == 2
