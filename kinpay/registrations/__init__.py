"""Becoming allowed to be paid for: from the request of a spender to the binding (claims 1-9, [0016]-[0031]).

It is a checklist, not a sequence. *consented*, *agreement active* and, where the order asks for it, *enrolled* may come in any
order; whichever comes last completes the binding (`bind.py`), and until then everything can still be let go (`expire.py`).
"""
