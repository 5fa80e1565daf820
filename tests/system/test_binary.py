"""The binary protocol with the real process: in over SMTP, out to a gateway that counts, bounces to a sink."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.binary_gateway import BinaryGateway, Error, Frame, binary_gateway, error
from tests.support.engine_process import apn_domain, engine, mcmt_message
from tests.support.mail_peers import smtp_sink
from tests.support.tls import Certificates
from tests.system.test_bounces import blocks, read, to_mail

DOMAIN = "apn.example.com"
USER = f"user@{DOMAIN}"
MANY = 10_000


def binary_domain(gateway: BinaryGateway, certificates: Certificates, **options: Any) -> dict[str, Any]:
    stanza = apn_domain(gateway.port, certificates, **options)
    del stanza["apn_topic"]
    return {**stanza, "routes": [f"apn://localhost:{gateway.port}?protocol=binary"]}


@pytest.mark.parametrize("linger", [True, False], ids=["faithful", "closes at once"])
def test_of_ten_thousand_the_good_arrive_once_and_the_bad_fail_once_and_bounce(
    tmp_path: Path, certificates: Certificates, linger: bool
) -> None:
    tokens = [f"{number:064x}" for number in range(1, MANY + 1)]
    bad = set(random.Random(6).sample(tokens, MANY // 100))

    def judge(frame: Frame) -> Error | None:
        return error(frame, 8, linger=linger) if frame.token in bad else None

    with binary_gateway(certificates, judge) as gateway, smtp_sink() as sink:
        stanza = binary_domain(gateway, certificates, delivery_response_timeout=2000)
        with engine(tmp_path, {DOMAIN: stanza, "*": to_mail(sink)}) as process:
            batch_id = process.send(mcmt_message(b'{"aps":{}}', token=",\r\n ".join(tokens)), USER)
            process.wait_for("D", MANY - len(bad), within=60)
            failed = process.wait_for("P", len(bad))
            reported = [block for mail in sink.messages(1) for block in blocks(read(mail)[1])]
            assert process.stop() == 0
            logged = process.apnlog
        arrived = gateway.tokens()
        assert arrived == [token for token in tokens if token not in bad], "once each, and in their order"
    assert Counter(line[2] for line in logged) == Counter(f"{batch_id}-{number}" for number in range(1, MANY + 1))
    assert {tuple(line[-2:]) for line in failed} == {("8", "Invalid Token")}
    assert Counter(block["x-device-token"] for block in reported) == Counter(bad)
    assert {block["diagnostic-code"] for block in reported} == {"X-APNs; 8 Invalid Token"}
