"""What comes in from other systems: their own records as trace events.

A package for each system. It imports `tailrace` only, and is found by the entry-point group
`tailrace.formats`.
"""
