"""The sandbox bank: a provider at which the whole patent can be shown without an account anywhere.

A separate process with its own keys and its own database; kinpay meets it only over signed HTTP
(`docs/sandbox-bank.md`). This package imports nothing from `kinpay`.

The nouns (`client customer agreement debit refund event fault`) are kept in `schema.sql`; `api` answers the
operator's signed calls, `pages` the customer's browser, `control` the tests; `events` and `deadlines` run beside them.
"""
