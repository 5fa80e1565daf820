"""One connection to APNs against python's h2 in memory, with the time moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from channels.apn.connection import PING_AFTER, PING_TIMEOUT, ApnsConnection
from channels.apn.request import RequestBuilder
from mcmt.errors import ConnectError, RouteFaultError
from mcmt.message.model import Delivery, Headers, Part, Sender
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.trace import Trace
from tests.support.manual_clock import ManualClock
from tests.support.watching import Watcher

TIMEOUT = 30.0


class Recorder:
    """The engine's side."""

    trace: Trace | None = None

    def __init__(self) -> None:
        self.results: list[tuple[int, Outcome]] = []
        self.batches: list[int] = []
        self.wakes = 0
        self.on_wake: Callable[[], object] = lambda: None
        self.ends: list[str] = []

    def outcomes(self, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        assert not self.ends, "outcomes come before the end"
        self.batches.append(len(batch))
        self.results += [(delivery.number, outcome) for delivery, outcome in batch]

    def wake(self) -> None:
        self.wakes += 1
        self.on_wake()

    def leaving(self) -> None:
        pass

    def closed(self, reason: str) -> None:
        self.ends.append(reason)

    def by(self, disposition: Disposition) -> list[int]:
        return sorted(number for number, outcome in self.results if outcome.disposition is disposition)


class Tls:
    def selected_alpn_protocol(self) -> str:
        return "h2"


class Pipe(asyncio.Transport):
    """What asyncio's transport would do, in memory."""

    def __init__(self, connection: ApnsConnection) -> None:
        super().__init__({"peername": ("17.188.1.2", 443), "ssl_object": Tls()})
        self.connection = connection
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: Any) -> None:
        assert not self.ended
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.ended:
            self.ended = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


class ProviderTokens:
    """Stands for the keeper of provider tokens."""

    def __init__(self, may_renew: bool = True) -> None:
        self.token = "first.token"
        self.may_renew = may_renew

    def current(self) -> str:
        return self.token

    def replace(self, refused: str) -> bool:
        assert refused == self.token
        return self.may_renew


def delivery(number: int, headers: Headers = ()) -> Delivery:
    sender = Sender("018bcfe568007abc81234567", 1_700_000_000.0, "app@example.com", {})
    part = Part("message/vnd.msys.apn", headers, b'{"aps":{}}')
    return Delivery(number, number, "a.example", "u@a.example", f"{number:064x}", 0, 9e9, sender, part)


class Gateway:
    """Apple's side: h2, one connection, everything by hand."""

    def __init__(self, streams: int = 1000, tokens: ProviderTokens | None = None, window: int | None = None) -> None:
        self.clock = ManualClock()
        self.report = Recorder()
        builder = RequestBuilder("api.push.apple.com", "com.example.app", 3600.0)
        self.connection = ApnsConnection(builder, tokens, TIMEOUT, self.report, self.clock)  # type: ignore[arg-type]  # only two of its methods are asked for
        self.pipe = Pipe(self.connection)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        settings = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams}
        if window is not None:
            settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=settings)
        self.events: list[h2.events.Event] = []

    async def greet(self) -> None:
        self.connection.connection_made(self.pipe)
        self.h2.initiate_connection()
        self.exchange()
        await self.connection.greeted()

    def exchange(self) -> None:
        """Carry bytes until both sides are silent."""
        while True:
            written, self.pipe.written = self.pipe.written, []
            for data in written:
                self.events += self.h2.receive_data(data)
            answer = self.h2.data_to_send()
            if answer and not self.pipe.ended:
                self.connection.data_received(answer)
            elif not written:
                return

    def offer(self, count: int, first: int = 1, headers: Headers = ()) -> int:
        taken = self.connection.send([delivery(number, headers) for number in range(first, first + count)])
        self.exchange()
        return taken

    def answer(self, stream_id: int, status: str = "200", body: bytes = b"", **fields: str) -> None:
        headers = [(":status", status), *((name.replace("_", "-"), value) for name, value in fields.items())]
        self.h2.send_headers(stream_id, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)

    def refuse(self, stream_id: int, status: str, reason: str, **fields: str) -> None:
        self.answer(stream_id, status, b'{"reason":"%s"}' % reason.encode(), **fields)
        self.exchange()

    @property
    def requested(self) -> list[int]:
        return [event.stream_id for event in self.events if isinstance(event, h2.events.RequestReceived)]

    async def settle(self) -> None:
        """Let what was put off until the next turn of the loop happen."""
        self.clock.advance(0)
        for _ in range(3):
            await asyncio.sleep(0)


async def test_every_answer_is_reported_with_what_the_gateway_said() -> None:
    gateway = Gateway()
    await gateway.greet()
    assert gateway.offer(3) == 3
    gateway.clock.advance(0.25)
    gateway.answer(1, apns_id="echo")
    gateway.refuse(3, "410", "Unregistered")
    gateway.refuse(5, "500", "InternalServerError")
    by_number = dict(gateway.report.results)
    assert by_number[1].disposition is Disposition.DELIVERED
    assert by_number[1].remote_id == "018bcfe5-6800-7abc-8123-456700000001"
    assert by_number[1].remote_address == "17.188.1.2"
    assert by_number[1].duration == pytest.approx(0.25)
    assert by_number[1].size > len('{"aps":{}}')
    assert (by_number[2].disposition, by_number[2].code) == (Disposition.RECIPIENT_GONE, "410")
    assert (by_number[3].disposition, by_number[3].text) == (Disposition.TRANSIENT, "InternalServerError")


async def test_answers_of_one_read_are_one_report_and_their_successors_one_write() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(100)
    for stream_id in gateway.requested:
        gateway.answer(stream_id)
    gateway.report.on_wake = lambda: gateway.connection.send([delivery(number) for number in range(200, 300)])
    gateway.connection.data_received(gateway.h2.data_to_send())
    assert gateway.report.batches == [100]
    assert len(gateway.pipe.written) == 1


async def test_with_a_provider_token_one_stream_until_the_first_answer() -> None:
    gateway = Gateway(tokens=ProviderTokens())
    await gateway.greet()
    assert gateway.offer(10) == 1
    assert gateway.offer(10) == 0
    gateway.answer(1)
    gateway.exchange()
    assert gateway.offer(10, first=2) == 10


async def test_a_gateway_that_allows_no_stream_at_first_is_waited_for_cold_or_warm() -> None:
    for tokens in (ProviderTokens(), None):
        gateway = Gateway(streams=0, tokens=tokens)
        await gateway.greet()
        assert gateway.offer(10) == 0
        gateway.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        gateway.exchange()
        assert gateway.report.wakes
        assert gateway.offer(10) == 1


async def test_with_a_certificate_there_is_no_such_beginning() -> None:
    gateway = Gateway()
    await gateway.greet()
    assert gateway.offer(10) == 10


async def test_the_limit_on_streams_is_the_one_in_force_at_the_moment() -> None:
    gateway = Gateway(streams=5)
    await gateway.greet()
    assert gateway.offer(10) == 5
    gateway.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    gateway.exchange()
    for stream_id in gateway.requested[:4]:
        gateway.answer(stream_id)
    gateway.exchange()
    assert gateway.offer(10, first=10) == 0, "one is still open, and one is allowed"
    gateway.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 50})
    gateway.exchange()
    assert gateway.offer(10, first=10) == 10


async def test_a_stream_without_an_answer_ends_at_its_deadline_with_a_reset() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    gateway.clock.advance(TIMEOUT / 2)
    gateway.offer(1, first=3)
    gateway.answer(3)
    gateway.exchange()
    gateway.clock.advance(TIMEOUT / 2)
    gateway.exchange()
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1]
    (outcome,) = [outcome for number, outcome in gateway.report.results if number == 1]
    assert (outcome.code, outcome.text) == ("451", "4.4.2 [internal] no answer within 30000 ms")
    resets = [event.stream_id for event in gateway.events if isinstance(event, h2.events.StreamReset)]
    assert resets == [1], "the gateway's slot is given back"
    assert gateway.offer(1, first=4) == 1, "others were answered: the connection is good"


async def test_a_connection_on_which_nothing_is_answered_is_given_up() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    gateway.clock.advance(TIMEOUT)
    await gateway.settle()
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1, 2]
    assert len(gateway.report.ends) == 1


async def test_goaway_refuses_what_came_after_its_last_stream_and_waits_for_the_rest() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(6)
    gateway.h2.close_connection(last_stream_id=5)
    gateway.exchange()
    assert gateway.report.by(Disposition.REFUSED) == [4, 5, 6]
    assert gateway.offer(1, first=7) == 0
    assert not gateway.report.ends
    gateway.clock.advance(TIMEOUT)
    await gateway.settle()
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1, 2, 3]
    assert len(gateway.report.ends) == 1


async def test_goaway_for_a_revoked_certificate_is_the_routes_fault() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    gateway.h2.close_connection(last_stream_id=0, additional_data=b'{"reason":"BadCertificate"}')
    gateway.exchange()
    assert gateway.report.by(Disposition.ROUTE_FAULT) == [1, 2]


@pytest.mark.parametrize(("code", "expected"), [(7, Disposition.REFUSED), (2, Disposition.AMBIGUOUS)])
async def test_a_reset_is_a_refusal_only_when_it_says_so(code: int, expected: Disposition) -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(1)
    gateway.h2.reset_stream(1, error_code=code)
    gateway.exchange()
    assert gateway.report.by(expected) == [1]


async def test_a_reset_after_the_answer_takes_nothing_from_it() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(1)
    gateway.answer(1)
    # h2 itself would not: RST_STREAM(NO_ERROR), as nginx sends it when it has not read the body.
    gateway.connection.data_received(gateway.h2.data_to_send() + bytes.fromhex("000004 03 00 00000001 00000000"))
    assert gateway.report.by(Disposition.DELIVERED) == [1]
    assert len(gateway.report.results) == 1


async def test_what_was_never_written_in_full_was_not_processed() -> None:
    """A window of zero: the body waits, and at the deadline nobody can have seen it."""
    gateway = Gateway(window=0)
    await gateway.greet()
    gateway.offer(2)
    gateway.clock.advance(TIMEOUT)
    gateway.exchange()
    assert gateway.report.by(Disposition.REFUSED) == [1, 2]


async def test_a_lost_connection_is_ambiguous_for_what_was_written() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(3)
    gateway.connection.connection_lost(ConnectionResetError("reset by peer"))
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1, 2, 3]
    assert gateway.report.ends == ["connection lost: reset by peer"]


async def test_silence_is_answered_by_a_ping_and_a_deaf_peer_is_left() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.clock.advance(PING_AFTER)
    assert gateway.pipe.written, "a ping"
    gateway.exchange()
    gateway.clock.advance(PING_AFTER)
    assert not gateway.report.ends, "the first one was answered"
    gateway.pipe.written.clear()  # the second one never arrives
    gateway.clock.advance(PING_TIMEOUT)
    await gateway.settle()
    assert gateway.report.ends == ["no sign of life"]


async def test_a_refused_provider_token_is_replaced_and_the_connection_left() -> None:
    gateway = Gateway(tokens=ProviderTokens())
    await gateway.greet()
    gateway.offer(1)
    gateway.refuse(1, "403", "ExpiredProviderToken")
    await gateway.settle()
    assert gateway.report.by(Disposition.REFUSED) == [1]
    assert gateway.report.ends == ["403 ExpiredProviderToken"]


async def test_a_fresh_provider_token_that_is_refused_is_the_routes_fault() -> None:
    gateway = Gateway(tokens=ProviderTokens(may_renew=False))
    await gateway.greet()
    gateway.offer(1)
    gateway.refuse(1, "403", "InvalidProviderToken")
    assert gateway.report.by(Disposition.ROUTE_FAULT) == [1]


async def test_a_topic_that_the_message_brought_is_the_messages_fault_else_the_routes() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(1, headers=(("apns-topic", "com.example.other"),))
    gateway.offer(1, first=2)
    gateway.refuse(1, "400", "TopicDisallowed")
    gateway.refuse(3, "400", "TopicDisallowed")
    assert gateway.report.by(Disposition.PERMANENT) == [1]
    assert gateway.report.by(Disposition.ROUTE_FAULT) == [2]


async def test_a_wait_that_the_gateway_asks_for_is_passed_on() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(1)
    gateway.refuse(1, "429", "TooManyRequests", retry_after="77")
    assert gateway.report.results[0][1].retry_after == 77


async def test_closing_waits_for_answers_up_to_its_drain_and_says_goodbye() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    closing = asyncio.create_task(gateway.connection.aclose(5.0))
    await asyncio.sleep(0)
    assert gateway.offer(1, first=3) == 0
    gateway.answer(1)
    gateway.answer(3)
    gateway.exchange()
    await closing
    gateway.exchange()
    assert gateway.report.by(Disposition.DELIVERED) == [1, 2]
    assert gateway.report.ends == ["closed by us"]


async def test_whoever_stops_waiting_for_the_end_takes_nothing_from_it() -> None:
    """As a second SIGTERM does."""
    gateway = Gateway()
    await gateway.greet()
    closing = asyncio.create_task(gateway.connection.aclose(5.0))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    gateway.connection.connection_lost(None)
    assert gateway.report.ends == ["closed by us"]


async def test_closing_at_the_end_of_its_drain_leaves_nothing_unreported() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    await gateway.connection.aclose(0.01)
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1, 2]
    assert gateway.report.ends == ["closed by us"]


async def test_a_socket_that_takes_nothing_more_is_not_written_to() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.connection.pause_writing()
    assert gateway.offer(5) == 0
    assert gateway.pipe.written == []
    gateway.connection.resume_writing()
    assert gateway.report.wakes >= 1
    assert gateway.offer(5) == 5


async def test_rubbish_from_the_peer_ends_the_connection_and_reports_everything() -> None:
    gateway = Gateway()
    await gateway.greet()
    gateway.offer(2)
    gateway.connection.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    await gateway.settle()
    assert gateway.report.by(Disposition.AMBIGUOUS) == [1, 2]
    assert gateway.report.ends[0].startswith("protocol error")


async def test_a_connection_that_ends_before_its_settings_never_came_to_be() -> None:
    gateway = Gateway()
    gateway.connection.connection_made(gateway.pipe)
    gateway.connection.connection_lost(None)
    with pytest.raises(ConnectError, match=r"before its SETTINGS came; it may refuse the client certificate$"):
        await gateway.connection.greeted()
    assert gateway.report.ends == []


async def test_with_a_provider_token_no_certificate_is_suspected() -> None:
    gateway = Gateway(tokens=ProviderTokens())
    gateway.connection.connection_made(gateway.pipe)
    gateway.connection.connection_lost(None)
    with pytest.raises(ConnectError, match=r"before its SETTINGS came$"):
        await gateway.connection.greeted()


async def test_a_key_that_cannot_sign_is_the_routes_fault_at_once() -> None:
    class NoKey(ProviderTokens):
        def current(self) -> str:
            raise RouteFaultError("apn_auth_key cannot be read")

    gateway = Gateway(tokens=NoKey())
    gateway.connection.connection_made(gateway.pipe)
    with pytest.raises(RouteFaultError):
        await gateway.connection.greeted()
    await gateway.settle()
    assert gateway.report.ends == []


async def test_a_provider_token_that_cannot_be_kept_leaves_the_one_in_use_in_force() -> None:
    class FullDisk(ProviderTokens):
        full = False

        def current(self) -> str:
            if self.full:
                raise ConnectError("disk full")
            return super().current()

        def replace(self, refused: str) -> bool:
            raise ConnectError("disk full")

    tokens = FullDisk()
    gateway = Gateway(tokens=tokens)
    await gateway.greet()
    gateway.offer(1)
    gateway.answer(1)
    gateway.exchange()
    tokens.full = True
    assert gateway.offer(3, first=2) == 3
    gateway.answer(3)
    gateway.refuse(5, "403", "ExpiredProviderToken")
    assert gateway.report.by(Disposition.DELIVERED) == [1, 2]
    assert gateway.report.by(Disposition.REFUSED) == [3], "nothing is known against the route: another try is due"


async def test_a_refusal_of_the_token_before_says_nothing_of_the_one_that_replaced_it() -> None:
    tokens = ProviderTokens(may_renew=False)
    gateway = Gateway(tokens=tokens)
    await gateway.greet()
    gateway.offer(1)
    gateway.answer(1)
    gateway.exchange()
    gateway.offer(1, first=2)
    tokens.token = "second.token"
    gateway.offer(1, first=3)
    gateway.refuse(3, "403", "ExpiredProviderToken")
    gateway.answer(5)
    gateway.exchange()
    assert gateway.report.by(Disposition.REFUSED) == [2], "it goes again, with the token that is in force"
    assert gateway.report.by(Disposition.DELIVERED) == [1, 3]


async def test_who_begins_to_watch_sees_every_frame_from_then_on_and_who_ends_none() -> None:
    gateway = Gateway()
    await gateway.greet()
    watcher = Watcher()
    # In the middle of a frame, as it may be.
    gateway.offer(1)
    gateway.h2.send_headers(1, [(":status", "410")])
    gateway.h2.send_data(1, b'{"reason":"Unregistered"}', end_stream=True)
    answer = gateway.h2.data_to_send()
    gateway.connection.data_received(answer[:11])
    gateway.report.trace = watcher.trace()
    gateway.connection.data_received(answer[11:])
    gateway.offer(1, first=2)
    lines = watcher.lines()
    assert [(line.way, line.what, line.stream) for line in lines] == [
        ("received", "HEADERS", 1),
        ("received", "DATA", 1),
        ("sent", "HEADERS", 3),
        ("sent", "DATA", 3),
    ]
    assert (":status", "410") in lines[0].fields
    assert lines[1].body == '{"reason":"Unregistered"}'
    assert dict(lines[2].fields)[":path"] == "/3/device/0000...0002"
    gateway.report.trace = None
    gateway.offer(1, first=3)
    assert watcher.lines() == ()
