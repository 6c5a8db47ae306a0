"""Whether the providers can be reached and know us: one harmless, signed question to each account."""

from __future__ import annotations

import asyncio
from typing import Final

from kinpay.cli.doctor.found import Found, ok, warning, wrong
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import SealBroken, ServerKeys
from kinpay.providers.contract import Misconfigured, NotExecuted, NotKnown, UnknownOutcome
from kinpay.server.provider_accounts import ProviderAccounts

TIMEOUT_S: Final = 5.0

ACCOUNTS = Sql("SELECT id, provider, account FROM provider_account WHERE enabled ORDER BY provider, account LIMIT 100")


async def look_at_providers(db: Database, keys: ServerKeys) -> list[Found]:
    """One line an account."""
    async with db.connection() as conn:
        rows = await ACCOUNTS.rows(conn)
    if not rows:
        return [warning("providers", "no account is entered, so nobody can be debited", "`kinpay provider add`")]
    accounts = ProviderAccounts(db, keys, timeout_s=TIMEOUT_S)
    try:
        return await asyncio.gather(*(_ask(accounts, row["id"], f"{row['provider']} {row['account']}") for row in rows))
    finally:
        await accounts.close()


async def _ask(accounts: ProviderAccounts, account_id: str, name: str) -> Found:
    about = f"provider {name}"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            provider = await accounts.adapter(account_id)
            # An agreement that there cannot be: the answer proves that they read our signature and we theirs.
            await provider.get_agreement(new_id())
    except (NotKnown, NotImplementedError):
        return ok(about, "answers, and knows us")
    except SealBroken:
        return wrong(about, "its secret was sealed under another root", "put the older line back into KINPAY_SECRET_FILE")
    except Misconfigured as error:
        return wrong(
            about, f"refuses us, or its configuration is wrong: {error.code}", "compare it with what the provider says"
        )
    except NotExecuted:
        return wrong(about, "cannot be reached", "look at its address, at DNS and at the firewall")
    except (UnknownOutcome, TimeoutError):
        return warning(
            about, f"gave no answer that could be believed within {TIMEOUT_S:.0f} s", "ask again; look at its status page"
        )
    return ok(about, "answers, and knows us")
