"""What kind of line it is, and the operation that it is about. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ingress.dify import envelopes, messages, nodes, prompts, side_operations, workflow_runs
from ingress.dify.info import Info, fields_of
from ingress.dify.operation import Operation
from ingress.dify.task import Task
from ingress.dify.zones import Zones
from tailrace.errors import InvalidEvent
from tailrace.formats import Note

Reader = Callable[[Task], Operation]

CLASSES: Final[Mapping[str, Reader]] = {
    "WorkflowTraceInfo": workflow_runs.read,
    "WorkflowNodeTraceInfo": nodes.read,
    "DraftNodeExecutionTrace": nodes.read_draft,
    "MessageTraceInfo": messages.read,
    "ModerationTraceInfo": side_operations.moderation,
    "SuggestedQuestionTraceInfo": side_operations.suggested_question,
    "DatasetRetrievalTraceInfo": side_operations.dataset_retrieval,
    "ToolTraceInfo": side_operations.tool,
    "GenerateNameTraceInfo": side_operations.generate_name,
    "PromptGenerationTraceInfo": prompts.read,
}
"""Dify's name of an info class -> its reader."""

_EXPECTED: Final = 'must be {"app_id", "trace_info_type", "trace_info"} or a telemetry envelope with "case"'
_FLAGS: Final = ("_enterprise_trace_dispatched",)
"""Fields that Dify adds for its own bookkeeping; they say nothing about the operation."""


def read(raw: bytes, zones: Zones) -> Operation:
    """The operation of a line.

    Args:
        raw: the line.
        zones: the zones of times without one.

    Raises:
        InvalidEvent: names the field, by its path in the line; `line` if it is not a JSON object.
    """
    try:
        fields = fields_of(raw)
    except ValueError as e:
        raise InvalidEvent("line", f"is not a JSON object: {e}") from None
    notes: list[Note] = []
    line = Info("", fields, notes)
    if not line.has("trace_info_type"):
        if line.has("case"):
            return envelopes.read(line, zones, notes)
        raise InvalidEvent("trace_info_type", f"is missing; a line {_EXPECTED}")
    name = line.required("trace_info_type")
    reader = CLASSES.get(name)
    if reader is None:
        raise InvalidEvent("trace_info_type", f"is {name[:60]!r}; it must be one of {', '.join(CLASSES)}")
    if not line.has("trace_info"):
        raise InvalidEvent("trace_info", f"is missing or null: Dify recorded no {name}")
    try:
        info = fields_of(fields["trace_info"])
    except ValueError:
        raise InvalidEvent("trace_info", "is not an object") from None
    line.skip("trace_info", *_FLAGS)
    task = Task(name, line, Info("trace_info", info, notes), zones, notes)
    task.info.skip(*_FLAGS)
    operation = reader(task)
    task.place_rest(operation)
    return operation
