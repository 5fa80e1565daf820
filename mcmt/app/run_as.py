"""``run_as``: root binds the addresses, and everything else is done as a user who may do less.

Rules: nothing is made, opened or given away as root: folders, logs, keys and certificates are that user's to reach, and
the configuration is judged again in his place; what was dropped cannot be taken back, which is tried. Workers are
started afterwards, so they never were root.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Sequence

from mcmt.config.settings import AddressSettings, RunAs, Settings
from mcmt.errors import RunAsError
from mcmt.intake.sockets import Bind, bind_all

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


class _Bound:
    """Sockets that were bound before they are asked for; each is given once."""

    def __init__(self, places: Sequence[AddressSettings]) -> None:
        self._sockets = list(zip(places, bind_all(places), strict=True))

    def __call__(self, places: Sequence[AddressSettings]) -> list[list[socket.socket]]:
        given = []
        for place in places:
            number = next(number for number, (bound, _) in enumerate(self._sockets) if bound == place)
            given.append(self._sockets.pop(number)[1])
        return given


def bind_as_root(settings: Settings) -> Bind:
    """Bind every address, and give the sockets to whoever asks for them later. Raises ListenError."""
    return _Bound(settings.addresses)


def wanted(settings: Settings) -> RunAs | None:
    """Whom this process is to become; None: nobody, or it is that user already."""
    return settings.run_as if settings.run_as is not None and settings.run_as.uid != os.geteuid() else None


def become(run_as: RunAs) -> None:
    """Be that user, with his groups, for good. Raises RunAsError."""
    if os.geteuid() != 0:
        raise RunAsError(
            f"run_as: only root can become {run_as.user}, and this is user id {os.geteuid()}: "
            f"start it as root or as {run_as.user}, or remove run_as"
        )
    try:
        os.initgroups(run_as.user, run_as.gid)
        os.setresgid(run_as.gid, run_as.gid, run_as.gid)
        os.setresuid(run_as.uid, run_as.uid, run_as.uid)
    except OSError as error:
        raise RunAsError(f"run_as: this process cannot become {run_as.user}: {error.strerror}") from error
    # Nor may anything that is started from here become more, by a set-user-ID file.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise RunAsError(f"run_as: {run_as.user} can become root again; take CAP_SETUID from the engine")
