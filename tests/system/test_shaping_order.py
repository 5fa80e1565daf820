"""What overtakes and what replaces, in an engine of two workers before a real gateway."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

from tests.support.engine_process import engine, mcmt_message
from tests.support.simulator_process import simulator

DOMAIN = "apn.example.com"
TO = f"user@{DOMAIN}"


def push(text: str, tokens: str, priority: int | None = None, headers: str = "") -> bytes:
    field = b"" if priority is None else b"MT-Priority: %d\r\n" % priority
    return field + mcmt_message(b'{"aps":{"alert":"%b"}}' % text.encode(), token=tokens, headers=headers)


def test_a_code_overtakes_bulk_mail_and_a_newer_score_replaces_the_queued_one_whichever_worker_has_them(
    tmp_path: Path,
) -> None:
    """Each message comes in a session of its own, so that the workers receive them in turn."""
    crowd = ",".join(f"{number:064x}" for number in range(900))
    with simulator(tmp_path / "gateway") as gateway:
        stanza = {**gateway.stanza, "replace_queued": True, "max_outbound_connections": 2}
        with engine(tmp_path / "engine", {DOMAIN: stanza}, workers=2) as process:
            process.operate("domain", "suspend", DOMAIN)
            process.send(push("sale", crowd, -4), TO)
            scores = [
                process.send(push(f"score {number}", "aa" * 32, headers="apns-collapse-id: game\r\n"), TO)
                for number in range(6)
            ]
            news = process.send(push("news", "aa" * 32, headers="apns-collapse-id: news\r\n"), TO)
            code = process.send(push("code", "bb" * 32, 5), TO)
            ended = process.wait_for("P", 5)
            assert [(line[2], line[-2], line[-1]) for line in ended] == [
                (f"{old}-1", "554", f"5.7.0 [internal] superseded by {new}") for old, new in itertools.pairwise(scores)
            ]
            process.operate("domain", "resume", DOMAIN)
            process.wait_for("D", 903)
            shown = [one["payload"] for one in gateway.received]
            assert len(shown) == 903
            assert [text for text in shown if "sale" not in text] == [
                f'{{"aps":{{"alert":"{text}"}}}}' for text in ("code", "score 5", "news")
            ]
            assert max(place for place, text in enumerate(shown) if "sale" not in text) < 20
            assert {line[2] for line in process.logged("D")} >= {f"{one}-1" for one in (code, scores[-1], news)}
            assert len(process.logged("P")) == 5
            done = subprocess.run(process.command("audit"), capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout
