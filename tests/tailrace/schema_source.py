"""A source of schemas that answers what the test says."""

from __future__ import annotations

from tailrace.codec.schemas import Resolver


class SchemaSource:
    """Implements `tailrace.schema_registry.schema_wait.Schemas`."""

    def __init__(self) -> None:
        self.resolver = Resolver()
        self.wanted: list[bytes] = []
        self.lacks: set[bytes] = set()
        self.fetching: set[bytes] = set()

    def want(self, frame: bytes) -> None:
        self.wanted.append(frame)

    def denied(self, frame: bytes) -> bool:
        return frame in self.lacks

    def asked(self, frame: bytes) -> bool:
        return frame in self.fetching
