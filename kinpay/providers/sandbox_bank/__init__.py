"""The sandbox bank, met over signed HTTP: the port (`adapter.py`), its JSON and CSV (`wire.py`), its signatures.

Source: docs/sandbox-bank.md, and nothing else: bank and adapter never read each other.
"""
