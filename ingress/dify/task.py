"""A line with a trace info: what all info classes have in common. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.dify.info import Info
from ingress.dify.operation import Operation
from ingress.dify.zones import ROWS, Zones
from tailrace.conversion import JsonText
from tailrace.formats import Note
from tailrace.ids import uuid_of
from tailrace.records import Kind

PREFIX: Final = "dify."
"""Of attributes: a field that an event has no place for."""
_ATTRIBUTES: Final = 32
_LONGEST: Final = 1024
"""Bytes of the longest value that becomes an attribute."""
_NAME: Final = 64
"""Characters of the longest name that becomes an attribute."""
FLAGS: Final = ("_enterprise_trace_dispatched",)
"""Fields that Dify adds between two attempts, for its bookkeeping; they say nothing about the operation."""
KEPT: Final = "has no field in an event; kept as an attribute"
BACKWARDS: Final = "is before the start; sinks show no duration"
DIFFERS: Final = "differs from that of the trace info, which is taken"
IN_METADATA: Final = "has no field in an event; kept in node_execution.metadata"
LOST: Final = "has no field in an event, and there is no room for it as an attribute"
_SAID: Final = 100
"""Fields of a line that are noted one by one."""
MORE: Final = f"has more than {_SAID} fields that an event has no field for; the others are left out"
_REPEATED: Final = ("", "workflow_run_", "model_", "conversation_")
"""What a field's own name has before the name that it has in the metadata."""


class Task:
    """One line with a trace info.

    Args:
        cls: Dify's name of its class.
        line: the line.
        info: its trace info.
        zones: the zones of times without one.
        notes: where is noted what was done.
    """

    def __init__(self, cls: str, line: Info, info: Info, zones: Zones, notes: list[Note]) -> None:
        self.cls, self.line, self.info, self.zones, self.notes = cls, line, info, zones, notes
        self.metadata = info.inner("metadata") or Info("trace_info.metadata", {}, notes)

    def text(self, name: str, *others: str) -> str | None:
        """A text of the trace info, else of its metadata, else under one of the other names there."""
        own = self.info.text(name)
        found = self.metadata.text(name, *others)
        if own is not None and found is not None and own != found:
            self.metadata.unread(name, DIFFERS)
        return own or found

    def common(self, source: str = ROWS, message_id: str | None = None) -> dict[str, Any]:
        """The fields of an event that every trace info may have.

        Args:
            source: of its times, for those without a zone.
            message_id: its message, if that is known better than by the field of that name.

        Raises:
            InvalidEvent: a time is not valid.
        """
        info, metadata = self.info, self.metadata
        line_app, app = self.line.text("app_id"), self.text("app_id")
        if line_app is not None and app is not None and line_app != app:
            self.line.unread("app_id", DIFFERS)
        started, ended = self.times(source)
        return {
            "tenant_id": self.text("tenant_id"),
            "app_id": app or line_app,
            "app_name": metadata.text("app_name"),
            "workspace_name": metadata.text("workspace_name"),
            "message_id": message_id or self.text("message_id"),
            "conversation_id": self.text("conversation_id"),
            "user_id": self.text("user_id"),
            "session_id": metadata.text("trace_session_id"),
            "external_trace_id": info.text("trace_id"),
            "started_at": started,
            "ended_at": ended,
            "inputs": info.content("inputs"),
            "outputs": info.content("outputs"),
        }

    def times(self, source: str) -> tuple[int | None, int | None]:
        """Start and end, microseconds UTC. Raises `InvalidEvent`."""
        info, zones = self.info, self.zones
        start, end = self._time_text("start_time"), self._time_text("end_time")
        started = None if start is None else self._time("start_time", "started_at", start, source)
        ended = None
        if end is not None:
            ended, said = zones.read(info.path("end_time"), end, source)
            if started is not None and ended < started:
                second = zones.later(info.path("end_time"), end, source)
                if second is not None:
                    ended, said = second
            if said is not None:
                self.notes.append(Note("read", "ended_at", said))
            if started is not None and ended < started:
                self.notes.append(Note("read", "ended_at", BACKWARDS))
        return started, ended

    def _time_text(self, name: str) -> str | None:
        found = self.info.value(name)
        if isinstance(found, str):
            return found or None
        if found is not None:
            self.info.unread(name, "is not a text with a time")
        return None

    def _time(self, name: str, field: str, text: str, source: str) -> int:
        found, said = self.zones.read(self.info.path(name), text, source)
        if said is not None:
            self.notes.append(Note("read", field, said))
        return found

    def parents(self) -> dict[str, Any]:
        """Of a nested run: the run and the node that called it."""
        found = self.metadata.inner("parent_trace_context")
        if found is None:
            return {}
        parents = {
            "parent_run_id": found.text("parent_workflow_run_id"),
            "parent_node_execution_id": found.text("parent_node_execution_id"),
        }
        for name, _ in found.rest():
            found.unread(name, "is not part of Dify's parent context")
        return parents

    def no_id(self) -> str:
        """An id for an operation that has none: a hash of what the line says about it.

        So the same line gives the same id, and two calls of a tool in a message have two.
        """
        raw = self.line.raw("trace_info") or b""
        try:
            info = msgspec.json.decode(raw)
            for flag in FLAGS:
                info.pop(flag, None)
            raw = msgspec.json.encode(info, order="sorted")
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, TypeError):
            pass
        return uuid_of("dify", self.cls, self.line.text("app_id") or "", raw.decode(errors="replace"))

    def place_rest(self, operation: Operation) -> None:
        """Puts what no field of the event has taken into attributes, or notes that it has no place."""
        attributes: dict[str, str] = {}
        left = [(self.line, "", name, value) for name, value in self.line.rest()]
        left += [(self.info, "", name, value) for name, value in self.info.rest()]
        left += [
            (self.metadata, "metadata.", name, value)
            for name, value in self.metadata.rest()
            if not self.info.repeats(name, value, _REPEATED)
        ]
        metadata: dict[str, msgspec.Raw] = {}
        of_node = operation.kind in (Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION)
        for number, (info, prefix, name, value) in enumerate(left):
            if of_node and prefix:
                metadata[name] = msgspec.Raw(value)
                said = IN_METADATA
            else:
                text = attribute_of(f"{PREFIX}{prefix}{name}", value, attributes)
                said = LOST if text is None else KEPT
            if number < _SAID:
                self.notes.append(Note("unplaced", info.path(name), said))
        if len(left) > _SAID:
            self.notes.append(Note("unplaced", "trace_info", MORE))
        if metadata:
            operation.body["metadata"] = JsonText(msgspec.json.encode(metadata).decode())
        if attributes:
            operation.fields["attributes"] = attributes


def attribute_of(name: str, value: bytes, attributes: dict[str, str]) -> str | None:
    """Adds a value as it is written to attributes, unless it is too large or there are too many.

    Returns:
        The attribute's text; None if it was not added.
    """
    if len(value) > _LONGEST or len(attributes) >= _ATTRIBUTES or len(name) > _NAME:
        return None
    try:
        found = msgspec.json.decode(value)
        text = found if isinstance(found, str) else value.decode()
        text.encode()
        name.encode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    attributes[name] = text
    return text
