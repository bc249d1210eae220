"""How long a record with an unknown schema is waited for: once per schema. Pure; times are passed in.

The schema may be on its way: a registry that is slow, a reader that is upgraded minutes after the writer.
"""

from __future__ import annotations


class SchemaWaits:
    """Deadlines by schema, shared by the partitions of one sink. Used by one thread."""

    def __init__(self, seconds: float) -> None:
        """seconds: how long a schema is waited for, from its first record on."""
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def waiting(self, schema: str, now: float) -> bool:
        """Whether a record of this schema, which is still unknown, is to wait at `now`."""
        return now < self._until.setdefault(schema, now + self._seconds)

    def first(self, schema: str) -> bool:
        """Whether nothing has waited for it yet."""
        return schema not in self._until

    def known(self, schema: str) -> None:
        """It could be read: should it get lost again, it is waited for again."""
        self._until.pop(schema, None)
