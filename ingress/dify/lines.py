"""What kind of line it is, and the operation that it is about. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ingress.dify import envelopes, messages, nodes, prompts, side_operations, workflow_runs
from ingress.dify.info import Info, fields_of
from ingress.dify.operation import Operation
from ingress.dify.task import FLAGS, Task
from ingress.dify.zones import Zones
from tailrace import lenient_json
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
REPAIRED: Final = "has lone surrogates, NaN or infinities, which JSON cannot hold; they are U+FFFD and null"
_NEVER: Final = ("_id", "_type", "_time")
"""Ends of the names of fields of which nothing is replaced: other lines name the same."""


def read(raw: bytes, zones: Zones) -> Operation:
    """The operation of a line.

    Args:
        raw: the line.
        zones: the zones of times without one.

    Raises:
        InvalidEvent: names the field, by its path in the line; `line` if it is not a JSON object.
    """
    notes: list[Note] = []
    try:
        fields = fields_of(raw)
    except ValueError as e:
        repaired = _repaired(raw, notes)
        if repaired is None:
            raise InvalidEvent("line", f"is not a JSON object: {e}") from None
        fields = repaired
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
    line.skip("trace_info", *FLAGS)
    task = Task(name, line, Info("trace_info", info, notes), zones, notes)
    task.info.skip(*FLAGS)
    operation = reader(task)
    task.place_rest(operation)
    return operation


def _repaired(raw: bytes, notes: list[Note]) -> dict[str, msgspec.Raw] | None:
    """The fields of a line that is JSON but for lone surrogates and NaN, which Python writes; else None.

    Args:
        raw: what is not JSON.
        notes: gets the fields that were changed.

    Raises:
        InvalidEvent: one of these is in an id, a type or a time. Names the field.
    """
    try:
        data = lenient_json.read(raw)
        if type(data) is not dict:
            return None
        for holder, path in ((data, ""), *((data.get(name), f"{name}.") for name in _HOLDERS)):
            if type(holder) is dict:
                for name, value in holder.items():
                    if path or name not in _HOLDERS or type(value) is not dict:
                        holder[name] = _repaired_field(f"{path}{name}", value, notes)
        return fields_of(lenient_json.text(lenient_json.Repair().of(data)))
    except InvalidEvent:
        raise
    except (ValueError, RecursionError):
        return None


_HOLDERS: Final = ("trace_info", "payload")


def _repaired_field(path: str, value: Any, notes: list[Note]) -> Any:
    repair = lenient_json.Repair()
    found = repair.of(value)
    if repair.changed:
        if path.endswith(_NEVER):
            raise InvalidEvent(path, "has a lone surrogate, NaN or an infinity, which it cannot hold")
        notes.append(Note("changed", path, REPAIRED))
    return found
