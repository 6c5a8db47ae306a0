"""What is said over HTTP about enrolling a face, and about what staff have to look at."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from kinpay.primitives.fields import Closed, Id
from kinpay.registrations.bodies import TerminalView
from kinpay.registrations.finding import Finding
from kinpay.sittings.bodies import Hint


class EnrolledOut(Closed):
    """`enrolled`: the face is on the registration's checklist. `waits`: somebody of the operator has to look first; there is
    nothing to do at the terminal. `refused`: the frames are worth nothing, begin another sitting.
    """

    outcome: Literal["enrolled", "waits", "refused"]
    reasons: list[str]
    hints: list[Hint]
    registration: TerminalView


class AccountShown(Closed):
    """An account, to the staff who compare two of them."""

    person_id: Id
    display_name: str


class FindingOut(Closed):
    """Accounts whose faces a machine cannot tell apart: `person` was captured, `alike` are enrolled already."""

    finding_id: Id
    registration_id: Id
    state: Literal["open", "different", "same", "lapsed"]
    person: AccountShown
    alike: list[AccountShown]
    found_at: datetime
    decided_by: Id | None
    decided_at: datetime | None


class FindingList(Closed):
    """The newest first. `next`: give it as `after` to read on; null at the end."""

    findings: list[FindingOut]
    next: Id | None


class FindingDecision(Closed):
    """What somebody who looked says: two people who resemble each other, or one with two accounts."""

    decision: Literal["different_people", "same_person"]


def shown_finding(finding: Finding, names: dict[str, str]) -> FindingOut:
    """A finding with the names of both sides."""

    def account(person_id: str) -> AccountShown:
        return AccountShown(person_id=person_id, display_name=names.get(person_id, ""))

    return FindingOut.model_validate(
        {
            "finding_id": finding.id,
            "registration_id": finding.registration_id,
            "state": str(finding.state),
            "person": account(finding.person_id),
            "alike": [account(person_id) for person_id in finding.alike],
            "found_at": finding.found_at,
            "decided_by": finding.decided_by,
            "decided_at": finding.decided_at,
        }
    )
