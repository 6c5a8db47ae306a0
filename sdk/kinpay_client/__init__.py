"""What the program of a terminal, a person or a merchant needs to talk to a kinpay server; it imports nothing from kinpay.

`Terminal` signs every request and agrees on session keys by itself; `Person` carries a session token, `Merchant` an API key.
All repeat what is safe to repeat, under the same request key, and never what is not. `SyncTerminal`, `SyncPerson` and
`SyncMerchant` are the same without an event loop. `read_webhook` verifies what a merchant is told.
"""

from kinpay_client.answer import Answer, Problem, UnexpectedAnswer, Unreachable, WrongField
from kinpay_client.exchange import NotSettled, new_key
from kinpay_client.merchant import Merchant, SyncMerchant
from kinpay_client.person import Person, SyncPerson
from kinpay_client.results import Charge, Command, Item, PayCode, PaymentCode, Reason, Refusal, Registration
from kinpay_client.terminal import SyncTerminal, Terminal
from kinpay_client.webhook import NotGenuine, WebhookMessage, read_webhook

__all__ = [
    "Answer",
    "Charge",
    "Command",
    "Item",
    "Merchant",
    "NotGenuine",
    "NotSettled",
    "PayCode",
    "PaymentCode",
    "Person",
    "Problem",
    "Reason",
    "Refusal",
    "Registration",
    "SyncMerchant",
    "SyncPerson",
    "SyncTerminal",
    "Terminal",
    "UnexpectedAnswer",
    "Unreachable",
    "WebhookMessage",
    "WrongField",
    "new_key",
    "read_webhook",
]
