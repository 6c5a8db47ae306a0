"""The sandbox bank, met over signed HTTP: `adapter.py` the port, `wire.py` its JSON and CSV, `signing.py` its signatures.

Source: docs/sandbox-bank.md, and nothing else: bank and adapter never read each other.
"""
