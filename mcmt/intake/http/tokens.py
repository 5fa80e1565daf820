"""Bearer tokens: how they are made, stored, and known again (RFC 6750).

A token is 256 random bits, so nobody guesses it and a plain digest of it may stand in the configuration; a slow hash
would protect nothing that is not protected, and cost every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from mcmt.config.settings import HttpTokenSettings
from mcmt.intake.http.problem import Problem
from mcmt.message.address import domain_of

PREFIX: Final = "mcmt_"
"""So that programs which look for secrets where none should be know one."""
BYTES: Final = 32


def make_token(octets: bytes) -> str:
    """The token of BYTES random *octets*."""
    return PREFIX + base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def hash_of(token: str) -> str:
    """What the configuration has of a token."""
    return f"sha256:{hashlib.sha256(token.encode(errors='surrogateescape')).hexdigest()}"


class Tokens:
    """Those of the configuration."""

    def __init__(self, tokens: Mapping[str, HttpTokenSettings]) -> None:
        """*tokens*: by hash."""
        self._tokens = tokens

    def reload(self, tokens: Mapping[str, HttpTokenSettings]) -> None:
        """These are known from now on, and no others."""
        self._tokens = tokens

    def holder(self, authorization: str | None, scope: Literal["send", "status"]) -> HttpTokenSettings:
        """Whose request it is that has this header field. Raises Problem: nobody's, or not for *scope*."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            text = "give a token: Authorization: Bearer ..."
            raise _challenge(Problem(401, text, enhanced="5.7.0"), "")
        # What is looked up is a digest: how long that takes tells nothing of the token.
        found = self._tokens.get(hash_of(token.strip()))
        if found is None:
            raise _challenge(Problem(401, "the token is not known", enhanced="5.7.8"), ', error="invalid_token"')
        if scope not in found.scopes:
            problem = Problem(403, f"the token {found.name} has no scope {scope}", enhanced="5.7.1")
            raise _challenge(problem, f', error="insufficient_scope", scope="{scope}"')
        return found


def may_send(token: HttpTokenSettings, recipient: str, field: str) -> None:
    """Raises Problem 403 where *recipient* is of a domain that the token is not for."""
    if token.domains is not None and (domain := domain_of(recipient)) not in token.domains:
        raise Problem(403, f"the token {token.name} is not for {domain}", field, enhanced="5.7.1")


def _challenge(problem: Problem, more: str) -> Problem:
    # RFC 6750 3: the header field of a refusal, with the error where a token was given.
    problem.headers["WWW-Authenticate"] = f'Bearer realm="mcmt"{more}'
    return problem
