"""Who is told of a failure, and under which status."""

from __future__ import annotations

import pytest

from mcmt.message.failure import return_path_of, status_of
from mcmt.message.status import Disposition, Outcome


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (None, "app@example.com"),
        ("bounces@example.com", "bounces@example.com"),
        ("<bounces@example.com>", "bounces@example.com"),
        ('<"a b"@example.com>', "app@example.com"),
        # The null path is a path: nobody is told.
        ("", ""),
        ("<>", ""),
        # What a channel did not read may be anything; what is no address does not count.
        ("nobody", "app@example.com"),
        ("a@example.com>\r\nBcc: <b@example.com", "app@example.com"),
        ("a@" + "b" * 260, "app@example.com"),
    ],
)
def test_the_part_says_who_is_told_else_the_envelope(field: str | None, path: str) -> None:
    headers = () if field is None else (("subject", "x"), ("return-path", field), ("return-path", "later@example.com"))
    assert return_path_of(headers, "app@example.com") == path


@pytest.mark.parametrize(
    ("code", "text", "disposition", "status"),
    [
        ("410", "Unregistered", Disposition.RECIPIENT_GONE, "5.1.6"),
        ("400", "BadDeviceToken", Disposition.RECIPIENT_GONE, "5.1.1"),
        ("413", "PayloadTooLarge", Disposition.PERMANENT, "5.3.4"),
        ("400", "BadPriority", Disposition.PERMANENT, "5.0.0"),
        ("550", "5.1.1 <u@example.com> unknown", Disposition.PERMANENT, "5.1.1"),
        ("550", "no such user", Disposition.PERMANENT, "5.0.0"),
        ("554", "5.4.7 [internal] exceeded max time without delivery", Disposition.PERMANENT, "5.4.7"),
        # Of another class, or not quite one: a failure would contradict itself (RFC 3464 2.3.4).
        ("550", "4.2.1 over quota", Disposition.PERMANENT, "5.0.0"),
        ("550", "5.1.1.7 is no status", Disposition.PERMANENT, "5.0.0"),
    ],
)
def test_the_status_is_the_texts_own_or_what_the_code_stands_for(
    code: str, text: str, disposition: Disposition, status: str
) -> None:
    assert status_of(Outcome(disposition=disposition, code=code, text=text)) == status
