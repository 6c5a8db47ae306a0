"""What a provider says by itself goes the same ways as what it answers: one function for each kind of thing."""

from __future__ import annotations

import logging
from typing import Final

from kinpay.biometrics.keyring import Keyring
from kinpay.charges.refund import settle_refund
from kinpay.charges.submit import book_debit, drive
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.mandates.sign_agreement import learn_now
from kinpay.primitives.ids import is_id
from kinpay.providers.contract import Adapters, Notification, ProviderAgreement, ProviderDebit, ProviderRefund
from kinpay.registrations.authorize import carry_agreement

log = logging.getLogger(__name__)

AGREEMENT_ACCOUNT = Sql("SELECT provider_account_id FROM agreement WHERE id = :key")
DEBIT_ACCOUNT = Sql("SELECT provider_account_id FROM debit WHERE id = :key")
REFUND_ACCOUNT = Sql("""
    SELECT d.provider_account_id FROM refund r JOIN debit d ON d.id = r.debit_id AND d.circle_id = r.circle_id WHERE r.id = :key
""")
_ACCOUNT_OF: Final[dict[type, Sql]] = {
    ProviderAgreement: AGREEMENT_ACCOUNT,
    ProviderDebit: DEBIT_ACCOUNT,
    ProviderRefund: REFUND_ACCOUNT,
}


class Learner:
    """Acts on verified callbacks."""

    def __init__(self, db: Database, adapters: Adapters, keyring: Keyring) -> None:
        self._db = db
        self._adapters = adapters
        self._keyring = keyring

    async def learn(self, account_id: str, notification: Notification) -> None:
        """Books what the provider says of a thing that was ordered through this very account; anything else is left alone."""
        seen = notification.seen
        if seen is None:
            return
        if not is_id(seen.key) or await self._account_of(seen) != account_id:
            log.warning(
                "callback about something that is not this account's",
                extra={"provider_account_id": account_id, "kind": type(seen).__name__},
            )
            return
        if isinstance(seen, ProviderAgreement):
            await learn_now(self._db, seen.key, seen=seen)
            await carry_agreement(self._db, self._keyring, agreement_id=seen.key)
        elif isinstance(seen, ProviderDebit):
            settlement = await book_debit(self._db, seen.key, seen)
            await drive(self._db, self._adapters, settlement.next_debit_id)
        else:
            async with self._db.transaction() as conn:
                await settle_refund(conn, seen.key, seen)

    async def _account_of(self, seen: ProviderAgreement | ProviderDebit | ProviderRefund) -> str | None:
        async with self._db.connection() as conn:
            found: str | None = await _ACCOUNT_OF[type(seen)].value(conn, key=seen.key)
        return found
