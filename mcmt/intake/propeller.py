"""The door for clients of propeller-apns: a form in, the same answers out; a delay is a scheduled delivery.

Source: propeller-apns' server.py under Flask. Its answers are text/html, to the octet: 401 ``Unauthorized``, 200 with
the job as JSON in Python's own spacing. What made it fail with 500 (a delay that is none), or lost a push later without
a word (no topic, no token), is 400 with the reason.

Rules: 200 is said when the push is on disk. The token that clients show is compared in constant time.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from mcmt.clock import Clock
from mcmt.config.settings import PropellerSettings
from mcmt.errors import MessageError, SpoolError
from mcmt.intake.compose import Schedule
from mcmt.intake.reception import Reception
from mcmt.intake.requests.door import Answer, Client
from mcmt.message.model import Envelope, Part
from mcmt.wire.http1 import Refusal, Request, Response
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

PROTOCOL: Final = "propeller"
"""This door's word in the main log."""
MEDIA_TYPE: Final = "message/vnd.msys.apn"
CONTENT_TYPE: Final = "text/html; charset=utf-8"
HORIZON: Final = 366 * 86400
"""Seconds ahead that a push may be delayed."""
FIELDS: Final = 100
"""Of a form, at most."""
LATER: Final = 30
"""Seconds that a client waits which could not be served now."""
_METHODS: Mapping[str, tuple[str, ...]] = {"/post": ("POST",), "/": ("GET", "HEAD"), "/form": ("GET", "HEAD")}
_is_delay = re.compile(r"[0-9]{1,10}").fullmatch
_is_topic = re.compile(r"[!-~]{1,200}").fullmatch


class PropellerDoor:
    """One address."""

    def __init__(self, settings: PropellerSettings, reception: Reception, clock: Clock) -> None:
        self._reception = reception
        self._clock = clock
        self.reload(settings)

    def reload(self, settings: PropellerSettings) -> None:
        """Other settings hold, of the next request on connections that are open too."""
        self.idle_timeout = settings.idle_timeout
        self.max_message_size = settings.max_message_size
        self._settings = settings

    # -- mcmt.intake.requests.door.RequestDoor -----------------------------------------------------------------------

    protocol = PROTOCOL

    @property
    def tracing(self) -> Tracing:
        """See RequestDoor."""
        return self._reception.tracing

    async def answer(self, request: Request, client: Client) -> Answer:
        """See RequestDoor."""
        methods = _METHODS.get(request.path)
        if methods is None:
            return Answer(_text(HTTPStatus.NOT_FOUND, "Not Found"))
        if request.method not in methods:
            allow = (("Allow", ", ".join(methods)),)
            return Answer(_text(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", allow))
        if request.path == "/":
            return Answer(_text(HTTPStatus.OK, "<!-- Nothing to see here -->"))
        form = {} if request.path == "/form" else read_form(request)
        client.about.domain = self._settings.domain_of(form.get("topic", ""))
        client.about.shown = partial(_shown, form, self._settings.auth_token)
        given = form.get("auth_token", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._settings.auth_token.encode()):
            reason = MessageError(535, "5.7.8", "the auth_token is not the one of the configuration")
            self._reception.reject(self._envelope(client), request.path, reason)
            return Answer(_text(HTTPStatus.UNAUTHORIZED, "Unauthorized"))
        return Answer(await self._post(form, client, len(request.body)))

    def busy(self, text: str) -> Response:
        """See RequestDoor."""
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, text, (("Retry-After", str(LATER)),))

    def refuse(self, refusal: Refusal) -> Response:
        """See RequestDoor."""
        return _text(refusal.status, refusal.text)

    # -- POST /post ----------------------------------------------------------------------------------------------------

    async def _post(self, form: Mapping[str, str], client: Client, size: int) -> Response:
        domain = self._settings.domain_of(form.get("topic", ""))
        envelope = self._envelope(client, domain)
        try:
            part = _part(form, domain)
            delay = form.get("delay") or "0"
            if not _is_delay(delay) or int(delay) > HORIZON:
                raise _wrong(f"delay: expected whole seconds, at most {HORIZON}")
            schedule = Schedule(self._clock.time() + int(delay)) if int(delay) else Schedule()
            composed = await self._reception.composed_parts(envelope, (part,), size, schedule=schedule)
            await self._reception.keep(composed)
        except MessageError as reason:
            self._reception.reject(envelope, "/post", reason)
            if reason.code < 500:
                return self.busy(reason.text)
            return _text(HTTPStatus.BAD_REQUEST, _escaped(reason.text))
        except SpoolError as error:
            self._reception.tell_not_kept(client.connection_id, client.peer, error)
            return self.busy("the push was not kept; try again later")
        job = {
            "title": form.get("title"),
            "body": form.get("body"),
            "badge": _badge(form),
            "token": form.get("token"),
        }
        return _text(HTTPStatus.OK, json.dumps(job))

    def _envelope(self, client: Client, domain: str = "") -> Envelope:
        recipients = (f"{PROTOCOL}@{domain}",) if domain else ()
        peer, connection_id, _ = client
        return Envelope(self._settings.return_path, recipients, peer, connection_id, PROTOCOL)


def _shown(form: Mapping[str, str], secret: str) -> bytes:
    """A form without what authorizes, wherever the client has put it."""
    pairs = ((name, "..." if "auth" in name.lower() else value) for name, value in form.items())
    return "\n".join(f"{name}={value}" for name, value in pairs).replace(secret, "...").encode("utf-8", "replace")


def read_form(request: Request) -> Mapping[str, str]:
    """The first value of each field; none where the body is no form."""
    content_type = request.fields.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    found: dict[str, str] = {}
    try:
        if kind == "application/x-www-form-urlencoded":
            text = request.body.decode("utf-8", "replace")
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS, errors="replace")
        elif kind == "multipart/form-data":
            pairs = _multipart(content_type, request.body)
        else:
            return {}
    except Exception:  # ValueError, or whatever email's parser comes to: IndexError where "*" has no name before it
        return {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    # RFC 7578: a body of MIME, whose header is the request's.
    if body.count(b"\n--") > FIELDS:
        raise ValueError("more fields than are taken")
    whole = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    pairs: list[tuple[str, str]] = []
    for part in whole.get_payload() if whole.is_multipart() else ():
        if not isinstance(part, Message):
            continue
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            pairs.append((name, content.decode("utf-8", "replace")))
    return pairs


def _part(form: Mapping[str, str], domain: str) -> Part:
    topic, token = form.get("topic", ""), form.get("token", "").strip()
    if not _is_topic(topic):
        raise _wrong("topic: give the bundle id of the app")
    if not domain:
        raise MessageError(550, "5.1.2", f"topic: no domain is given to {topic}: name one in propeller.listen, topics")
    if not token or "," in token:
        raise MessageError(554, "5.1.3", "token: give the device token")
    return push(topic, token, form.get("title"), form.get("body"), _badge(form))


def push(topic: str, token: str, title: str | None, body: str | None, badge: int | None) -> Part:
    """The push that propeller-apns' worker made of a job. *topic* empty: the domain's own."""
    aps: dict[str, object] = {"content-available": 0, "alert": _alert(title, body)}
    # As propeller-apns did: a badge of 0 is none.
    if badge:
        aps["badge"] = badge
    headers = (
        ("x-device-token", token),
        *((("apns-topic", topic),) if topic else ()),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
    )
    content = json.dumps({"aps": aps}, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Part(MEDIA_TYPE, headers, content)


def _alert(title: str | None, body: str | None) -> dict[str, str]:
    return {name: text for name, text in (("title", title), ("body", body)) if text}


def _badge(form: Mapping[str, str]) -> int | None:
    try:
        return int(form["badge"])
    except (KeyError, ValueError):
        return None


def _text(status: HTTPStatus, text: str, more: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, text.encode("utf-8", "replace"), CONTENT_TYPE, more)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _wrong(text: str) -> MessageError:
    return MessageError(554, "5.5.4", text)
