"""What can go wrong, as classes with a stable `code` and no prose; `server/problems.py` gives each a status and words.

A refusal of a charge is *not* here: it is a value, see `charges/decide.py` (architecture.md §4.5).
"""

from __future__ import annotations

from typing import ClassVar


class KinpayError(Exception):
    """The root. `code` is stable and public; `detail` holds plain facts (ids, numbers), never secrets or names."""

    code: ClassVar[str] = "internal"

    def __init__(self, **detail: object) -> None:
        super().__init__(self.code)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code} {self.detail}" if self.detail else self.code


class Invalid(KinpayError):
    """The request's form is wrong: `reason` says which rule, `field` where."""

    code = "invalid-request"

    def __init__(self, reason: str, *, field: str = "", **detail: object) -> None:
        super().__init__(reason=reason, field=field, **detail)


class Unauthenticated(KinpayError):
    """Nobody we know, or no longer: bad signature, ended session, replayed request."""

    code = "unauthenticated"


class SignatureInvalid(Unauthenticated):
    """A terminal's request whose signature does not fit."""

    code = "signature-invalid"


class RequestReplayed(Unauthenticated):
    """A signed request whose nonce was seen before: captured traffic is useless."""

    code = "request-replayed"


class RequestStale(Unauthenticated):
    """A signed request from too long ago, or from the future."""

    code = "request-stale"


class TerminalSessionEnded(Unauthenticated):
    """The session key that signed this is not known, or no longer: the terminal opens a new session and asks again."""

    code = "terminal-session-ended"


class Forbidden(KinpayError):
    """Known, but not allowed to do this."""

    code = "forbidden"


class SecondPersonNeeded(KinpayError):
    """Your operator asks for two people here: once another owner agreed to `privileged_act_id`, send the same request again."""

    code = "second-person-needed"


class OwnersNeeded(KinpayError):
    """There would be fewer than `at_least` owners; name another one first."""

    code = "owners-needed"


class NotFound(KinpayError):
    """There is no such thing for this asker; foreign and absent look alike."""

    code = "not-found"


class WrongState(KinpayError):
    """The thing exists but its life cycle does not allow this now."""

    code = "wrong-state"

    def __init__(self, thing: str, *, state: str, event: str = "") -> None:
        super().__init__(thing=thing, state=state, event=event)


class Conflict(KinpayError):
    """Somebody else changed it, or it exists already."""

    code = "conflict"


class KeyMissing(KinpayError):
    """A request that moves money or consent came without `Idempotency-Key`."""

    code = "idempotency-key-missing"


class KeyReused(KinpayError):
    """The same `Idempotency-Key` with another body or path."""

    code = "idempotency-key-reused"


class KeyNotKept(KinpayError):
    """An `Idempotency-Key` where no answer is kept, as it holds a secret: sent again, the request would do it again."""

    code = "idempotency-key-not-kept"


class KeyInFlight(KinpayError):
    """The first request under this key is still being carried out: ask again shortly."""

    code = "idempotency-key-in-use"


class CheckCodeAltered(KinpayError):
    """A code that we did not sign, or that was changed since."""

    code = "check-code-altered"


class CheckCodeExpired(KinpayError):
    """A code past its short life."""

    code = "check-code-expired"


class CheckCodeUsed(KinpayError):
    """A single-use code that was used before."""

    code = "check-code-used"


class CheckCodeOtherTerminal(KinpayError):
    """A code of another terminal than the one that presents it."""

    code = "check-code-other-terminal"


class ProofRequired(KinpayError):
    """The act needs a fresh proof of the person, bound to exactly this content; `proof_id` names the one just sent."""

    code = "proof-required"


class ProofInvalid(KinpayError):
    """The proof is wrong, expired, used, or was given for another content."""

    code = "proof-invalid"


class PinWrong(KinpayError):
    """Not the PIN of that card; `attempts_left` says how many more guesses there are before it locks."""

    code = "pin-wrong"


class PinRequired(KinpayError):
    """The card has a PIN and none was given; that is no attempt."""

    code = "pin-required"


class PinLocked(KinpayError):
    """Too many wrong PINs: the card takes none before `until`, which is `retry_after_s` from now."""

    code = "pin-locked"


class ConsentFirst(KinpayError):
    """Order B captures before the payer consents; this operator does not allow it for minors or for unknown ages."""

    code = "consent-first"


class MatchNumberWrong(KinpayError):
    """Not the number that the spender sees: perhaps this is not the request that the payer believes to answer."""

    code = "match-number-wrong"


class TooMany(KinpayError):
    """A cap on attempts or open requests is reached; `retry_after_s` says when to come back."""

    code = "too-many-requests"


class Busy(KinpayError):
    """The circle stayed locked, or the database is away: nothing was changed, the same request may be sent again."""

    code = "busy"


class Restored(KinpayError):
    """The database was restored from a backup, as of `restored_to`: closed until the providers were asked for the rest."""

    code = "restored"


class ChargedBefore(KinpayError):
    """This very request made a charge that was lost with the database and found again at the provider."""

    code = "charged-before"


class ProviderUnavailable(KinpayError):
    """The provider could not be reached, or did not give an answer that can be believed; nothing is decided."""

    code = "provider-unavailable"


class MethodNotOffered(KinpayError):
    """A way of paying that this house does not offer (yet): it is said, not faked."""

    code = "method-not-offered"


class EmvCodeMalformed(KinpayError):
    """What was scanned is no well-formed EMVCo code: `reason` says which rule, `field` which object of it."""

    code = "emv-code-malformed"

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(reason=reason, field=field)
