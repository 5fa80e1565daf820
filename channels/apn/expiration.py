"""When a push ends that does not say so itself: in one place, for both protocols."""

from __future__ import annotations

from mcmt.message.notification import Asked


def expiration_of(received: float, asked: Asked | None, expiry: float) -> int:
    """Seconds since the epoch; 0: now or never. *expiry*: seconds that a message has that says nothing.

    From the reception, or from when it was put off to, and not from now: a retry must not live longer than the first
    attempt. Not past the time that the sender gave (RFC 2852).
    """
    if not expiry:
        return 0
    if asked is None:
        return int(received + expiry)
    end = int((asked.begin or received) + expiry)
    return min(end, int(asked.deadline)) if asked.deadline else end
