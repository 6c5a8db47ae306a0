"""What a terminal or a person's program needs to talk to a kinpay server; it imports nothing from kinpay.

`Terminal` signs every request and agrees on session keys by itself; `Person` carries a session token. Both repeat what is
safe to repeat, under the same request key, and never what is not.
"""

from kinpay_client.answer import Answer, Problem, Unreachable
from kinpay_client.person import Person
from kinpay_client.terminal import Terminal
from kinpay_client.wire import new_key

__all__ = ["Answer", "Person", "Problem", "Terminal", "Unreachable", "new_key"]
