"""What a terminal is: a device with its own key, at a site of a merchant, and the life it leads. Pure.

Source: [0016] (terminal device); semantics.md "Objects", "Security".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from kinpay.primitives.lifecycle import Lifecycle
from kinpay.primitives.sealed import Sealed

INSTALL_LIFE: Final = timedelta(minutes=30)
"""How long an install code may wait for its device."""
SESSION_LIFE: Final = timedelta(hours=12)
"""How long a session key signs requests before the terminal agrees on a new one."""


class TerminalKind(StrEnum):
    """What a terminal is for; it decides nothing but the default hold and what its pages show."""

    TILL = "till"
    """Staffed: hands over at once, asks for authorisation and capture in one call."""
    VENDING = "vending"
    """Delivers by itself after the authorisation, then captures, or stays silent and is voided."""
    GATE = "gate"
    """Authorises at the entrance, captures the final amount at the exit."""
    KIOSK = "kiosk"
    """Stands for registrations: shows the function code, captures templates."""


class TerminalState(StrEnum):
    """Where a terminal is in its life."""

    EXPECTED = "expected"
    """Announced by staff; it has an install code and no key yet."""
    ACTIVE = "active"
    """Installed: its public key is known, its signed requests are believed."""
    REVOKED = "revoked"
    """Ended for good; nothing that its key or its sessions sign is believed any more."""


class TerminalEvent(StrEnum):
    """What moves it."""

    INSTALL = "install"
    """The device presented the install code and proved to hold its key."""
    REVOKE = "revoke"
    """Staff ended it."""


TERMINAL_LIFE: Final = Lifecycle(
    "terminal",
    TerminalState.EXPECTED,
    {
        (TerminalState.EXPECTED, TerminalEvent.INSTALL): TerminalState.ACTIVE,
        (TerminalState.ACTIVE, TerminalEvent.REVOKE): TerminalState.REVOKED,
    },
)
"""One that is merely expected is withdrawn instead of revoked: it never had a key, so its row goes (`revoke.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A terminal with the names of the place where it stands. `hold_s`: how long an authorisation waits for its capture."""

    id: str
    operator_id: str
    merchant_id: str
    merchant_name: str
    mcc: str
    site_id: str
    site_name: str
    name: str
    kind: TerminalKind
    state: TerminalState
    hold_s: int
    public_key: bytes | None
    created_at: datetime
    installed_at: datetime | None
    revoked_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether it is installed and not revoked."""
        return self.state is TerminalState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What a process remembers of a terminal's session, so that a request needs no database to be authenticated.

    Whether the session and the terminal still count is asked of the database together with the nonce
    (`authenticate.note_requests`), because only the database knows it at this moment.
    """

    session_id: str
    terminal_id: str
    operator_id: str
    merchant_id: str
    mcc: str
    site_id: str
    kind: str
    hold_s: int
    hmac_key: Sealed[bytes]
    expires_at: datetime
