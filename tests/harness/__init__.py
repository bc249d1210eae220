"""The ledger harness of the crash tests: counts what was promised and what arrived.

It is outside of the system: it imports only the public contract and is never killed.
"""
