"""What a terminal hears that asks for something before a camera at the wrong time, or once too often."""

from __future__ import annotations

from kinpay.primitives.errors import KinpayError


class SittingUsed(KinpayError):
    """Frames were sent for this challenge before, or it is over: begin a new sitting."""

    code = "sitting-used"


class SittingLate(KinpayError):
    """The frames, or the PIN, came after the challenge's seconds: begin a new sitting."""

    code = "sitting-late"


class NonceWrong(KinpayError):
    """The frames carry another nonce than their challenge's: they were made for something else."""

    code = "nonce-wrong"


class FaceLocked(KinpayError):
    """Too many faces or PINs in a row were not recognised here: none is looked at for `retry_after_s`. Codes and cards work."""

    code = "face-locked"


class FaceDisabled(KinpayError):
    """Far too many were not recognised at this terminal: no face is looked at until the operator's staff resets it."""

    code = "face-disabled"


class PinNotAsked(KinpayError):
    """No PIN is asked for here, or one was given already: pay by code or card."""

    code = "pin-not-asked"
