"""Named types of an Avro schema."""

from __future__ import annotations

from typing import Any, Final

PRIMITIVE: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class NamedTypes:
    """Named types of one schema, by full name and by short name."""

    def __init__(self) -> None:
        self._types: dict[str, dict[str, Any]] = {}

    def learn(self, t: dict[str, Any]) -> None:
        self._types[t["name"]] = t
        self._types[t["name"].rsplit(".", 1)[-1]] = t

    def find(self, name: str) -> dict[str, Any]:
        return self._types[name] if name in self._types else self._types[name.rsplit(".", 1)[-1]]

    def nested(self, kind: Any) -> dict[str, Any] | None:
        """The record that `kind`, or its nullable union, is; None if it is something else."""
        inner = kind
        if isinstance(kind, list):
            inner = kind[record_branch(kind) or 0] if len(kind) == 2 and "null" in kind else None
        if isinstance(inner, str) and inner not in PRIMITIVE:
            inner = self.find(inner)
        return inner if isinstance(inner, dict) and inner["type"] == "record" else None


def record_branch(kind: Any) -> int | None:
    """Number of the branch of a union of two that is not null; None: no union."""
    return int(kind[0] == "null") if isinstance(kind, list) else None
