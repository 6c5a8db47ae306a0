"""What looking at faces stands on, made once a process; a house without it offers no face, and everything else as ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from kinpay.biometrics.galleries import Galleries
from kinpay.biometrics.keyring import Keyring
from kinpay.biometrics.matcher import Tolerance
from kinpay.biometrics.rotation import Rotations
from kinpay.primitives.server_keys import ServerKeys
from kinpay.sittings.examiner import Examiner
from kinpay.sittings.sitting import SittingRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """`tolerance`: what the operator lets happen per attempt."""

    keys: ServerKeys
    keyring: Keyring
    rotations: Rotations
    galleries: Galleries
    examiner: Examiner
    tolerance: Tolerance = field(default_factory=Tolerance)
    rules: SittingRules = field(default_factory=SittingRules)
