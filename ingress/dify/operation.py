"""What a line of Dify says about one operation, before others have told what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.formats import Note
from tailrace.records import Kind

KNOWN: Final = (
    "tenant_id",
    "app_id",
    "app_name",
    "workspace_name",
    "message_id",
    "conversation_id",
    "user_id",
    "session_id",
    "workflow_run_id",
    "parent_run_id",
    "parent_node_execution_id",
    "started_at",
    "ended_at",
)
"""Fields of an event that other lines may need to know."""


@dataclass(slots=True)
class Within:
    """Where a node execution is in the graph, and in which round of which container."""

    node_id: str | None = None
    node_type: str | None = None
    iteration_id: str | None = None
    iteration_index: int | None = None
    loop_id: str | None = None
    loop_index: int | None = None


@dataclass(slots=True)
class Joins:
    """What of an operation is needed to find out what it belongs to. Small: it is kept while it waits."""

    kind: Kind
    source_id: str
    known: dict[str, Any]
    """Those of `KNOWN` that the line says."""
    within: Within | None = None
    """Of a node execution."""
    call: tuple[str, bytes] | None = None
    """Of a tool: its name, and a hash of what Dify took from the message's last thought with that tool."""
    node: str | None = None
    """Of a side operation: the node execution that it ran in."""
    number: int = 0
    """Of the line among all lines, from 1."""
    tries: int = 0
    """How often it was looked at in vain because of an execution of its container's node, or a turn."""

    def get(self, name: str) -> Any:
        """One of `KNOWN`; None if the line does not say it."""
        return self.known.get(name)


@dataclass(slots=True)
class Operation:
    """One operation, as far as its line tells."""

    kind: Kind
    source_id: str
    fields: dict[str, Any]
    """Fields of `TraceEvent`, without bodies."""
    body: dict[str, Any] = field(default_factory=dict)
    """Fields of the kind's body."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Fields of `Origin`."""
    notes: list[Note] = field(default_factory=list)
    within: Within | None = None
    call: tuple[str, bytes] | None = None
    node: str | None = None
    duration: int | None = None
    """Microseconds, for an operation that lacks its start or its end."""

    def joins(self, number: int = 0) -> Joins:
        """What of it is needed to find out what it belongs to."""
        known = {name: value for name in KNOWN if (value := self.fields.get(name)) is not None}
        return Joins(self.kind, self.source_id, known, self.within, self.call, self.node, number)
