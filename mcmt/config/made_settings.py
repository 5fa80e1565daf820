"""The domains that are made for apps of pyapns' clients, as values: a part of settings.py, through which the rest of
the code knows them.

Rules: a name is made of an app id by this code alone, and two app ids never have one name but by a collision of 64 bits
of SHA-256, which is noticed where a domain is made.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

from mcmt.message.route import Route, parse_route

Environment = Literal["sandbox", "production"]
_PLAIN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*").fullmatch
_ENCODED: Final = re.compile(r".*-[0-9a-f]{16}").fullmatch
_LONGEST_PLAIN: Final = 80
_SHOWN: Final = 40
"""Characters of an app id that can be read in an encoded name."""


class MakeDomains(msgspec.Struct, frozen=True, kw_only=True):
    """``make_domains``: what holds for the domains that one address makes."""

    suffix: str
    """The routing name that all of them end in."""
    most: int = 100
    domain_group: str | None = None
    """The group that they are members of; None: of none."""
    production: tuple[Route, ...] = (parse_route("apn://api.push.apple.com"),)
    sandbox: tuple[Route, ...] = (parse_route("apn://api.sandbox.push.apple.com"),)
    certificate_folder: Path | None = None
    """Where files may stand that clients name; None: they send PEM."""

    def routes(self, environment: Environment) -> tuple[Route, ...]:
        """Where the pushes of that environment go."""
        return self.production if environment == "production" else self.sandbox


class MadeDomain(msgspec.Struct, frozen=True, kw_only=True):
    """One domain that was made; what is kept of it in its file."""

    app_id: str
    environment: Environment
    suffix: str
    topic: str
    certificate: str
    """SHA-256 of the PEM file that has certificate and key."""
    expires: float
    """Of the certificate, in seconds since the epoch."""

    @property
    def domain(self) -> str:
        """Its routing name."""
        return made_name(self.app_id, self.environment, self.suffix)

    @property
    def record(self) -> str:
        """The name of its file."""
        return f"{self.domain}{RECORD}"

    @property
    def pem(self) -> str:
        """The name of the file with certificate and key. Another certificate has another one."""
        return f"{self.domain}-{self.certificate[:16]}.pem"


FOLDER: Final = "pyapns"
"""Below the spool: where the files of made domains are."""
RECORD: Final = ".json"


def made_name(app_id: str, environment: Environment, suffix: str) -> str:
    """The domain of an app: its id as it is where that is a domain name in lower case, else what can be read of it and
    a digest."""
    label = app_id
    if len(app_id) > _LONGEST_PLAIN or not _PLAIN(app_id) or _ENCODED(app_id):
        readable = re.sub("[^a-z0-9]+", "-", app_id[:_SHOWN].lower()).strip("-")
        digest = hashlib.sha256(app_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        label = f"{readable or 'app'}-{digest}"
    return f"{label}.{environment}.{suffix}"
