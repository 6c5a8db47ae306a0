"""What a terminal or a person's program needs to talk to a kinpay server; it imports nothing from kinpay.

`Terminal` signs every request and agrees on session keys by itself; `Person` carries a session token. Both repeat what is
safe to repeat, under the same request key, and never what is not. `SyncTerminal` and `SyncPerson` are the same without an
event loop.
"""

from kinpay_client.answer import Answer, Problem, UnexpectedAnswer, Unreachable, WrongField
from kinpay_client.exchange import NotSettled, new_key
from kinpay_client.person import Person, SyncPerson
from kinpay_client.results import Charge, Command, Item, PayCode, PaymentCode, Reason, Refusal, Registration
from kinpay_client.terminal import SyncTerminal, Terminal

__all__ = [
    "Answer",
    "Charge",
    "Command",
    "Item",
    "NotSettled",
    "PayCode",
    "PaymentCode",
    "Person",
    "Problem",
    "Reason",
    "Refusal",
    "Registration",
    "SyncPerson",
    "SyncTerminal",
    "Terminal",
    "UnexpectedAnswer",
    "Unreachable",
    "WrongField",
    "new_key",
]
