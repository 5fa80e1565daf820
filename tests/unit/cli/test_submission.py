"""What ``mcmt send`` shows of a listener that is not ours, and of a token that is none."""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mcmt.cli import main
from mcmt.cli.http_submission import submit_by_http
from mcmt.client import Client


class Listener(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 x\r\n")
        while line := self.rfile.readline():
            said = {b"MAIL": b"550 5.7.1 \x1b[2J no", b"QUIT": b"221 x"}.get(line[:4].upper(), b"250 x")
            self.wfile.write(said + b"\r\n")


def test_what_a_listener_says_moves_no_cursor() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        where = f"127.0.0.1:{server.server_address[1]}"
        said = CliRunner().invoke(main, ["send", "--smtp", where, "--to", "a@example.com", "--alert", "x"])
    assert said.exit_code == 1
    assert "refused at MAIL FROM: 550 5.7.1 \\x1b[2J no" in said.output
    assert "\x1b" not in said.output


@pytest.mark.parametrize("token", ["mcmt_s3cret\nmcmt_other", "mcmt_s3cret mcmt_other", "mcmt_s3cret\u2026"])
def test_a_token_that_is_none_is_not_repeated(tmp_path: Path, token: str) -> None:
    file = tmp_path / "key"
    file.write_text(token)
    with pytest.raises(click.UsageError, match="mcmt apikey") as caught:
        submit_by_http("http://127.0.0.1:1", file, "", "a@example.com", b"")
    assert "s3cret" not in caught.value.message
    with pytest.raises(ValueError, match="the token is not one word"):
        Client("http://127.0.0.1:1", "")
