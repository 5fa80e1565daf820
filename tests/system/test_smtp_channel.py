"""The smtp channel against mail servers that are not ours, and in the real engine between them."""

from __future__ import annotations

import asyncio
import contextlib
import email
import re
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP, default

import pytest

from channels.smtp import Options
from mcmt.errors import ConnectError
from mcmt.message.route import Route, parse_route
from mcmt.message.status import Disposition, Outcome
from tests.support.engine_process import TOKEN, EngineProcess, engine, mcmt_message
from tests.support.mail_peers import Server, exim, postfix, smtp_sink
from tests.support.peers import free_port
from tests.support.simulator_process import Simulator, simulator
from tests.support.tls import Certificates
from tests.unit.channels.smtp.peer import MAIL, deliveries, open_to

D = Disposition

HARD = (
    "From: app@example.com\r\nTo: u@example.org\r\nSubject: Grüße\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    f".\r\n..\r\n.grün\r\n{'x' * 3000}\r\nFrom here\r\n"
).encode()
"""Dots, octets over 127, a long line."""


def options(**values: object) -> Options:
    return Options.model_validate({"helo_name": "mx.example.com", **values})


async def send(route: str, *recipients: str, with_options: Options | None = None, **message: object) -> list[Outcome]:
    """One message in a session of its own; what became of it by recipient."""
    connection, report = await open_to(parse_route(route), with_options)
    taken = deliveries(*recipients, **message)  # type: ignore[arg-type]
    assert connection.send(taken) == len(taken)
    if not report.reason.done():
        await report.free()
        await connection.aclose(2)
    await report.end()
    return report.all


async def fate(route: str, *recipients: str, **message: object) -> list[Disposition]:
    """The dispositions alone; the session may end by itself."""
    connection, report = await open_to(parse_route(route))
    connection.send(deliveries(*recipients, **message))  # type: ignore[arg-type]
    free = asyncio.create_task(report.free())
    report.reason.add_done_callback(lambda _: free.cancel())
    with contextlib.suppress(asyncio.CancelledError):
        await free
    await connection.aclose(2)
    await report.end()
    return report.dispositions


def text_of(message: bytes) -> list[str]:
    """The decoded text, line by line; some servers end their files with an empty line."""
    read = email.message_from_bytes(message, policy=default)
    assert isinstance(read, EmailMessage)
    return str(read.get_content()).rstrip().splitlines()


# -- Postfix as next hop ----------------------------------------------------------------------------------------------

POSTFIX_MORE = """
smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access inline:{ { bad@example.com = REJECT }, { slow@example.com = DEFER } }
header_checks = regexp:{ { /^Subject: spam/ REJECT we do not want this } }
transport_maps = inline:{
  { relay.example.net = smtp:[127.0.0.1]:%(port)d }, { apn.example.com = smtp:[127.0.0.1]:%(port)d } }
relay_domains = relay.example.net apn.example.com
"""


@pytest.fixture(scope="module")
def intake_port() -> int:
    """Where the engine listens; Postfix has to know it beforehand."""
    return free_port()


@pytest.fixture(scope="module")
def next_hop(certificates: Certificates, intake_port: int) -> Iterator[Server]:
    with postfix(certificates, "u", "v", "ü", recipients=50, more=POSTFIX_MORE % {"port": intake_port}) as server:
        yield server


@pytest.fixture
def mailbox(next_hop: Server) -> Server:
    """The next hop, with nothing in its mailbox."""
    for file in next_hop.mail.iterdir() if next_hop.mail.is_dir() else ():
        file.unlink()
    return next_hop


async def test_postfix_takes_what_is_hard_to_send_over_verified_tls(
    mailbox: Server, certificates: Certificates
) -> None:
    must = options(tls="must", tls_ca=certificates.ca)
    outcomes = await send(mailbox.route, "u@example.org", with_options=must, content=HARD)
    assert [(outcome.disposition, outcome.code) for outcome in outcomes] == [(D.DELIVERED, "250")]
    assert "queued as" in outcomes[0].text
    (message,) = mailbox.messages(1)
    assert text_of(message) == text_of(HARD)
    assert email.message_from_bytes(message, policy=default)["Subject"] == "Grüße"
    assert "TLS connection established from" in mailbox.log.read_text()


async def test_postfix_answers_for_each_recipient(mailbox: Server) -> None:
    outcomes = await send(mailbox.route, "u@example.org", "nobody@example.org", "v@example.org", sender="")
    assert [outcome.disposition for outcome in outcomes] == [D.DELIVERED, D.RECIPIENT_GONE, D.DELIVERED]
    assert outcomes[1].code == "550"
    assert outcomes[1].text.startswith("5.1.1 <nobody@example.org>")
    assert len(mailbox.messages(2)) == 2


async def test_postfix_takes_the_rest_of_many_recipients_in_the_next_transaction(mailbox: Server) -> None:
    connection, report = await open_to(parse_route(mailbox.route))
    everyone = deliveries(*(f"u+{number}@example.org" for number in range(60)))
    assert connection.send(everyone) == 60
    await report.free()
    assert report.dispositions == [D.DELIVERED] * 50 + [D.REFUSED] * 10
    report.batches.clear()
    assert connection.send(everyone[50:]) == 10
    await report.free()
    assert report.dispositions == [D.DELIVERED] * 10
    await connection.aclose(2)


@pytest.mark.parametrize(
    ("message", "disposition", "text"),
    [
        ({"sender": "bad@example.com"}, D.PERMANENT, "5.7.1 <bad@example.com>"),
        ({"sender": "slow@example.com"}, D.TRANSIENT, "4.7.1 <slow@example.com>"),
        ({"content": b"Subject: spam\r\n\r\n"}, D.PERMANENT, "5.7.1 we do not want this"),
        ({"content": MAIL + b"x" * 76 * 3000}, D.PERMANENT, "5.3.4 [internal] the message has"),
    ],
    ids=["sender", "sender for now", "content", "size"],
)
async def test_postfix_refuses_and_the_session_goes_on(
    mailbox: Server, message: dict[str, object], disposition: Disposition, text: str
) -> None:
    connection, report = await open_to(parse_route(mailbox.route))
    connection.send(deliveries("u@example.org", **message))  # type: ignore[arg-type]
    await report.free()
    connection.send(deliveries("u@example.org", first=2))
    await report.free()
    await connection.aclose(2)
    assert report.dispositions == [disposition, D.DELIVERED]
    assert report.all[0].text.startswith(text)


async def test_postfix_takes_an_internationalised_address(mailbox: Server) -> None:
    (outcome,) = await send(mailbox.route, "ü@example.org", content="Subject: ü\r\n\r\nü\r\n".encode())
    assert outcome.disposition is D.DELIVERED


async def test_a_postfix_that_wants_tls_is_the_stanzas_fault_in_clear(
    mailbox: Server, certificates: Certificates
) -> None:
    clear = Options(tls="no", helo_name="mx.example.com")
    connection, report = await open_to(Route("smtp", "localhost", mailbox.encrypted_port), clear)
    connection.send(deliveries("u@example.org"))
    await report.end()
    assert [(outcome.disposition, outcome.code) for outcome in report.all] == [(D.ROUTE_FAULT, "530")]


async def test_a_postfix_that_wants_a_certificate_gets_it_or_says_that_it_wants_one(
    mailbox: Server, certificates: Certificates
) -> None:
    route = f"smtp://localhost:{mailbox.certificate_port}"
    ours = {"tls": "must", "tls_ca": certificates.ca}
    shown = options(**ours, tls_certificate=certificates.client, tls_key=certificates.client_key)
    (outcome,) = await send(route, "u@example.org", with_options=shown)
    assert outcome.disposition is D.DELIVERED
    with pytest.raises(ConnectError, match="No client certificate presented"):
        await open_to(parse_route(route), options(**ours))


# -- smtp-sink with its faults ----------------------------------------------------------------------------------------

FAULTS = [
    ("-f", "MAIL", D.PERMANENT),
    ("-f", "RCPT", D.PERMANENT),
    ("-f", "DATA", D.PERMANENT),
    ("-f", ".", D.PERMANENT),
    ("-r", "MAIL", D.TRANSIENT),
    ("-r", "RCPT", D.TRANSIENT),
    ("-r", "DATA", D.TRANSIENT),
    ("-r", ".", D.TRANSIENT),
    ("-q", "MAIL", D.REFUSED),
    ("-q", "RCPT", D.REFUSED),
    ("-q", "DATA", D.REFUSED),
    ("-q", ".", D.AMBIGUOUS),
    ("-Q", "MAIL", D.REFUSED),
    ("-Q", "RCPT", D.TRANSIENT),
    ("-Q", "DATA", D.TRANSIENT),
    ("-Q", ".", D.TRANSIENT),
    ("-f", "EHLO", D.DELIVERED),  # HELO does
    ("-f", "RSET", D.DELIVERED),
    ("-A", "0", D.PERMANENT),
    ("-H", "1", D.DELIVERED),
    ("-W", ".:1", D.DELIVERED),
    ("-e", "-8", D.DELIVERED),
    ("-p", "-8", D.DELIVERED),
    ("-8", "-N", D.DELIVERED),
]


@pytest.mark.parametrize(("switch", "argument", "disposition"), FAULTS, ids=lambda value: str(value).rpartition(".")[2])
async def test_every_fault_of_smtp_sink_has_its_disposition(
    switch: str, argument: str, disposition: Disposition
) -> None:
    with smtp_sink(switch, argument) as sink:
        assert await fate(sink.route, "u@example.org", content=HARD) == [disposition]
        if disposition is D.DELIVERED:
            (message,) = sink.messages(1)
            assert text_of(message) == text_of(HARD)
            assert message.isascii() or "-8" not in (switch, argument)


@pytest.mark.parametrize(
    "switches", [("-f", "CONNECT"), ("-q", "CONNECT"), ("-q", "EHLO"), ("-f", "EHLO,HELO"), ("-r", "EHLO")]
)
async def test_a_smtp_sink_that_does_not_greet_gives_no_connection(switches: tuple[str, ...]) -> None:
    with smtp_sink(*switches) as sink, pytest.raises(ConnectError):
        await open_to(parse_route(sink.route))


# -- Exim as next hop -------------------------------------------------------------------------------------------------


async def test_exim_takes_and_refuses_each_recipient() -> None:
    with exim() as server:
        recipients = ("u@example.org", "nobody@example.org", "later@example.org", "v@example.org")
        outcomes = await send(server.route, *recipients, content=HARD)
        assert [outcome.disposition for outcome in outcomes] == [D.DELIVERED, D.PERMANENT, D.TRANSIENT, D.DELIVERED]
        assert [outcome.code for outcome in outcomes] == ["250", "550", "451", "250"]
        assert [text_of(message) for message in server.messages(2)] == [text_of(HARD)] * 2
        (outcome,) = await send(server.route, "u@example.org", content=b"Subject: spam\r\n\r\n")
        assert (outcome.disposition, outcome.text) == (D.PERMANENT, "we do not want this")


async def test_exim_says_that_it_has_recipients_enough() -> None:
    with exim(recipients=2) as server:
        outcomes = await send(server.route, "a@example.org", "b@example.org", "c@example.org")
        assert [outcome.disposition for outcome in outcomes] == [D.DELIVERED, D.DELIVERED, D.REFUSED]


# -- in the engine ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("gateway"), "--any-token-length") as running:
        yield running


@pytest.fixture(scope="module")
def sink() -> Iterator[Server]:
    with smtp_sink() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, gateway: Simulator, next_hop: Server, sink: Server, intake_port: int
) -> Iterator[EngineProcess]:
    domains = {
        "apn.example.com": gateway.stanza,
        "example.org": {"delivery_method": "smtp", "routes": [next_hop.route], "retry_interval": "100ms"},
        # Nobody listens at the first route.
        "*": {"delivery_method": "smtp", "routes": [f"smtp://127.0.0.1:{free_port()}", sink.route], "helo_name": "mx"},
    }
    listener = {"listen": {f"127.0.0.1:{intake_port}": {"mcmt_reception": "allow"}}}
    with engine(tmp_path_factory.mktemp("engine"), domains, esmtp_listener=listener) as process:
        yield process


def lines_of(engine: EngineProcess, batch_id: str, kind: str, count: int) -> list[list[str]]:
    def found() -> list[list[str]]:
        return [line for line in engine.mainlog if line[2] == batch_id and line[4] == kind]

    engine.wait(lambda: len(found()) >= count)
    return found()


def test_one_message_is_mail_for_one_recipient_and_a_push_for_the_other(
    running: EngineProcess, mailbox: Server, gateway: Simulator
) -> None:
    push = (
        f"Content-Type: message/vnd.msys.apn\r\n\r\nX-Device-Token: {TOKEN}\r\n\r\n".encode()
        + b'{"aps":{"alert":"hello"}}'
    )
    parts = [b"Content-Type: message/rfc822\r\n\r\n" + HARD.replace("Grüße".encode(), b"hello"), push]
    head = b"From: app@example.com\r\nContent-Type: multipart/vnd.msys.mcmt; boundary=B\r\n\r\n"
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + b"--B--\r\n"
    batch_id = running.send(head + body, "u@example.org", "device@apn.example.com")
    lines = lines_of(running, batch_id, "D", 2)
    assert {line[5] for line in lines} == {"example.org", "apn.example.com"}
    (message,) = mailbox.messages(1)
    assert text_of(message) == text_of(HARD)
    received = email.message_from_bytes(message, policy=SMTP).get_all("Received")
    assert received is not None
    assert f"id {batch_id}" in received[-1]
    assert "from [127.0.0.1]" in received[-1]
    assert [push["token"] for push in gateway.received] == [TOKEN]


def test_recipients_of_one_message_share_a_transaction_and_have_results_of_their_own(
    running: EngineProcess, mailbox: Server
) -> None:
    batch_id = running.send(MAIL, "u@example.org", "nobody@example.org", "v@example.org")
    (failed,) = lines_of(running, batch_id, "P", 1)
    assert len(lines_of(running, batch_id, "D", 2)) == 2
    assert "5.1.1" in "@".join(failed)
    mailbox.messages(2)
    assert mailbox.log.read_text().count(f"message-id=<{batch_id}") <= 1


def test_a_dead_route_is_left_for_the_next_one(running: EngineProcess, sink: Server) -> None:
    before = len(sink.messages_now())
    batch_id = running.send(MAIL, "a@one.example.net", "b@one.example.net")
    assert len(lines_of(running, batch_id, "D", 2)) == 2
    (message,) = sink.messages(before + 1)[before:]
    assert b"X-Rcpt-Args: <a@one.example.net>\nX-Rcpt-Args: <b@one.example.net>\n" in message
    assert b"X-Helo-Args: mx\n" in message


def test_postfix_as_injector_hands_over_and_it_arrives(running: EngineProcess, next_hop: Server, sink: Server) -> None:
    """Postfix queues, relays to mcmt with all that its client can do, and mcmt relays on."""
    message = HARD.replace(b"x" * 3000, b"x" * 900)  # Postfix would divide the line
    before = len(sink.messages_now())
    with smtplib.SMTP("127.0.0.1", next_hop.port, timeout=10) as client:
        client.sendmail("app@example.com", ["a@relay.example.net", "b@relay.example.net"], message)
    (arrived,) = sink.messages(before + 1)[before:]
    assert text_of(arrived) == text_of(message)
    received = email.message_from_bytes(arrived, policy=SMTP).get_all("Received")
    assert received is not None
    by = [re.search(r"\bby (\S+)", field) for field in received]
    assert [match and match[1] for match in by] == ["smtp-sink", "mx", "postfix.example.org"]


def test_what_postfix_passes_on_is_asked_of_the_next_server(
    running: EngineProcess, next_hop: Server, sink: Server
) -> None:
    """RFC 3461: NOTIFY, ORCPT, RET and ENVID as Postfix writes them, on their way through."""
    before = len(sink.messages_now())
    with smtplib.SMTP("127.0.0.1", next_hop.port, timeout=10) as client:
        options = ["RET=HDRS", "ENVID=order+2B1"]
        client.sendmail("app@example.com", ["a@relay.example.net"], MAIL, options, ["NOTIFY=SUCCESS,DELAY"])
    (arrived,) = sink.messages(before + 1)[before:]
    assert re.search(rb"^X-Mail-Args: <app@example.com> .*RET=HDRS ENVID=order\+2B1", arrived, re.MULTILINE)
    asked = rb"^X-Rcpt-Args: <a@relay.example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@relay.example.net$"
    assert re.search(asked, arrived, re.MULTILINE)


def test_postfix_hears_that_a_push_was_relayed(running: EngineProcess, mailbox: Server, gateway: Simulator) -> None:
    """Postfix hands on what its client asked for; the report goes back to it, under the client's own names."""
    message = mcmt_message(b'{"aps":{"alert":"hello"}}')
    with smtplib.SMTP("127.0.0.1", mailbox.port, timeout=10) as client:
        options = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@Example.com"]
        client.sendmail("u@example.org", ["device@apn.example.com"], message, ["ENVID=order-4711"], options)
    (report,) = mailbox.messages(1)
    _, status, _ = email.message_from_bytes(report, policy=default).iter_parts()
    of_message, of_recipient = status.iter_parts()
    assert of_message["original-envelope-id"] == "order-4711"
    assert of_recipient["original-recipient"] == "rfc822;Bob@Example.com"
    assert (of_recipient["action"], of_recipient["status"]) == ("relayed", "2.0.0")


def test_the_session_stays_open_for_the_next_message(running: EngineProcess, sink: Server) -> None:
    before = len(sink.messages_now())
    for number in range(3):
        batch_id = running.send(MAIL, f"u{number}@same.example.net")
        lines_of(running, batch_id, "D", 1)
    assert len(sink.messages(before + 3)) == before + 3
    status = {domain["domain"]: domain for domain in running.status()["domains"]}
    assert status["same.example.net"]["connections"] == 1
