"""The apps that clients have provisioned, kept in the state store: over restarts, and one table for all workers.

Of a certificate only its digest is kept: pushes go with the credential of the app's domain. What a client provisions
anew takes the place of what was there.

Rules: on disk when ``put`` returns; blocking; safe for several processes at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from mcmt.channel.port import State
from mcmt.errors import MessageError

SCOPE: Final = "pyapns"
APPS: Final = 1000
"""Of one machine, at most: clients say no password. More: fault 8002, and the reject log says why."""
_KEY: Final = "apps"
_LONGEST: Final = 255
"""Characters of an app id."""

Environment = Literal["sandbox", "production"]
ENVIRONMENTS: Final[tuple[Environment, ...]] = ("sandbox", "production")


class App(msgspec.Struct, frozen=True):
    """One app, as a client has provisioned it."""

    environment: Environment
    certificate: str
    """SHA-256 of the path or the PEM that was given, to know another one."""

    @classmethod
    def of(cls, environment: Environment, certificate: str) -> App:
        """With the digest of *certificate*."""
        return cls(environment, hashlib.sha256(certificate.encode("utf-8", "surrogatepass")).hexdigest())


_decode = msgspec.json.Decoder(dict[str, App]).decode


class Provisioning:
    """The table."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._read: bytes | None = None
        self._apps: Mapping[str, App] = {}

    def get(self, app_id: object) -> App | None:
        """The app that was provisioned last under that id, by whichever process; None: there is none. Raises
        SpoolError."""
        apps, _ = self._load()
        return apps.get(app_id) if isinstance(app_id, str) else None

    def put(self, app_id: str, app: App) -> bool:
        """Keep *app*; whether it is another than before. Raises SpoolError, MessageError."""
        while True:
            apps, before = self._load()
            if apps.get(app_id) == app:
                return False
            _check_room(app_id, apps)
            if self._state.swap(_KEY, before, msgspec.json.encode({**apps, app_id: app})):
                return True

    def check_room(self, app_id: str) -> None:
        """Whether an app may be kept under that id. Raises SpoolError, MessageError."""
        _check_room(app_id, self._load()[0])

    def _load(self) -> tuple[Mapping[str, App], bytes | None]:
        kept = self._state.get(_KEY)
        if kept != self._read:
            self._apps, self._read = {} if kept is None else _decode(kept), kept
        return self._apps, kept


def _check_room(app_id: str, apps: Mapping[str, App]) -> None:
    if not 0 < len(app_id) <= _LONGEST:
        raise MessageError(554, "5.5.4", f"an app id has 1 to {_LONGEST} characters")
    if app_id not in apps and len(apps) >= APPS:
        raise MessageError(554, "5.5.3", f"{APPS} apps are provisioned, no more are taken")
