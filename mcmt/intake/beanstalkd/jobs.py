"""What propeller-apns' worker read in a job: a JSON object with ``token``, ``title``, ``body`` and ``badge``.

Pure. Source: propeller-apns' worker.py. Other keys are ignored, as it did; what ended it, so that the job came again
and ended it again, is a MessageError with the reason. A tube is a topic; ``default``, where jobs are of nobody's topic,
leaves the topic to the domain.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mcmt.errors import MessageError
from mcmt.intake.propeller import push
from mcmt.message.model import Part

DEFAULT: Final = "default"
"""The tube of producers that name none."""


class _Job(msgspec.Struct, frozen=True):
    token: str
    title: str | None = None
    body: str | None = None
    badge: int | str | None = None


_read = msgspec.json.Decoder(_Job).decode


def read_job(body: bytes, tube: str) -> Part:
    """The push that a job asks for. Raises MessageError."""
    try:
        job = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(554, "5.5.4", f"the job cannot be read: {error}") from None
    token = job.token.strip()
    if not token or "," in token:
        raise MessageError(554, "5.1.3", "token: give the device token")
    try:
        badge = None if job.badge is None else int(job.badge)
    except ValueError:
        raise MessageError(554, "5.5.4", "badge: expected a whole number") from None
    return push("" if tube == DEFAULT else tube, token, job.title, job.body, badge)
