"""The ledger harness of the crash tests. It stands outside the system: it imports the public contract only,
is never killed, and counts what was promised against what arrived."""
