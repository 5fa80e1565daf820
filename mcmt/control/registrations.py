"""What is said over the control socket of registrations, and of domains made for apps: see protocol.py, whose rules
hold.

Rules: values only; no I/O.
"""

from __future__ import annotations

import msgspec

from mcmt.spool.registration import Registration


class ListRegistrations(msgspec.Struct, frozen=True, tag_field="do", tag="registrations"):
    """Answered by a Registration (mcmt/spool/registration.py) for each, without its secret, oldest first."""

    service: str = ""
    """The JID of a component; empty: of all."""


class AddRegistration(msgspec.Struct, frozen=True, tag_field="do", tag="add_registration"):
    """Register a device; answered by the Registration as it is kept, or by ``refused``."""

    registration: Registration
    """Without a node or a secret it gets one."""


class RemoveRegistrations(msgspec.Struct, frozen=True, tag_field="do", tag="remove_registrations"):
    """Let go of one by its node, of a user's by *owner*, or of one device of it; answered by Counted."""

    service: str
    node: str = ""
    owner: str = ""
    device: str = ""


class RemoveMadeDomain(msgspec.Struct, frozen=True, tag_field="do", tag="remove_made_domain"):
    """Have a domain that was made for an app be there no more; answered by Counted, or by ``refused``."""

    domain: str


RegistrationRequest = ListRegistrations | AddRegistration | RemoveRegistrations | RemoveMadeDomain
