"""The rules of Opik's server for requests, and how its database merges. Pure.

They follow Opik's REST API documentation and the source of its backend (July 2026).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from connectors.testing.doubles.request_rules import RequestRefused

MOST: Final = 1000
TYPES: Final = ("general", "tool", "llm", "guardrail")
SOURCES: Final = ("sdk", "experiment", "playground", "optimization", "evaluator")
SCORE_LIMIT: Final = 1_000_000_000
"""Opik takes 999,999,999.999999999 either way, which as a float is this."""
SCORE_SOURCES: Final = ("online_scoring", "sdk", "ui")
_UUID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
Document = dict[str, Any]


def time_of(text: str) -> datetime.datetime:
    """Parses an ISO 8601 time with a zone. Raises ValueError."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no time zone")
    return time


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and 1970 <= time_of(value).year < 2262
    except ValueError:
        return False


def _is_error(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(k), str) and value[k].strip() for k in ("exception_type", "traceback"))
        and isinstance(value.get("message", ""), str)
    )


def _is_usage(value: Any) -> bool:
    return isinstance(value, dict) and all(type(n) is int and -(2**31) <= n < 2**31 for n in value.values())


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_json(value: Any) -> bool:
    return isinstance(value, dict | list | str)


_COMMON: Final[Mapping[str, Callable[[Any], bool]]] = {
    "project_name": lambda v: isinstance(v, str) and bool(v.strip()),
    "name": _is_text,
    "start_time": _is_time,
    "end_time": _is_time,
    "last_updated_at": _is_time,
    "input": _is_json,
    "output": _is_json,
    "metadata": _is_json,
    "tags": lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v),
    "error_info": _is_error,
    "ttft": _is_positive,
    "source": lambda v: v in SOURCES,
    "environment": lambda v: isinstance(v, str) and len(v) <= 150,
}
_TRACE: Final[Mapping[str, Callable[[Any], bool]]] = {**_COMMON, "thread_id": _is_text}
_SPAN: Final[Mapping[str, Callable[[Any], bool]]] = {
    **_COMMON,
    "type": lambda v: v in TYPES,
    "model": _is_text,
    "provider": _is_text,
    "usage": _is_usage,
    "total_estimated_cost": _is_positive,
}
_SCORE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "project_name": _COMMON["project_name"],
    "name": lambda v: isinstance(v, str) and bool(v.strip()),
    "category_name": _is_text,
    "value": lambda v: type(v) in (int, float) and abs(v) < SCORE_LIMIT,
    "reason": _is_text,
    "source": lambda v: v in SCORE_SOURCES,
}
_THREAD_SCORE: Final[Mapping[str, Callable[[Any], bool]]] = {
    **_SCORE,
    "thread_id": lambda v: isinstance(v, str) and bool(v.strip()),
}
_REQUIRED: Final = {
    "traces": ("start_time",),
    "spans": ("start_time",),
    "scores": ("name", "value", "source"),
    "thread_scores": ("thread_id", "name", "value", "source"),
}
_FIELDS: Final = {"traces": _TRACE, "spans": _SPAN, "scores": _SCORE, "thread_scores": _THREAD_SCORE}
_IDS: Final[Mapping[str, tuple[str, ...]]] = {
    "traces": ("id",),
    "spans": ("id", "trace_id", "parent_span_id"),
    "scores": ("id",),
    "thread_scores": (),
}


def items_of(document: Any, name: str) -> list[Document]:
    """The items of a batch. Raises `RequestRefused`."""
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MOST:
        raise RequestRefused(400, f"{name} size must be between 1 and {MOST}")
    if not all(isinstance(i, dict) for i in items):
        raise RequestRefused(400, "Unable to process JSON")
    return items


def problems(name: str, item: Document) -> Iterator[str]:
    """What is not valid in an item of traces, spans, scores or thread_scores, as sentences."""
    for field in _REQUIRED[name]:
        if item.get(field) is None:
            yield f"{field} must not be null"
    for field, right in _FIELDS[name].items():
        if item.get(field) is not None and not right(item[field]):
            yield f"{field} is not valid: {str(item[field])[:60]!r}"
    for field in _IDS[name]:
        value = item.get(field)
        if value is None:
            if field != "parent_span_id":
                yield f"{field} must not be null"
        elif version(value) != 7:
            yield f"{field} must be a version 7 UUID"


def version(value: Any) -> int | None:
    """The version of a UUID of the RFC's variant; None for anything else."""
    match = _UUID.fullmatch(value) if isinstance(value, str) else None
    return int(match[1], 16) if match and match[2].lower() in "89ab" else None


def out_of_window(name: str, item: Document, now: float, hours: float) -> str | None:
    """Whether an id's time is outside the window: too_old, too_far_future, or None if it is inside.

    Args:
        name: traces, spans or scores.
        item: The item.
        now: Unix seconds.
        hours: Most hours between an id's time and now.
    """
    for field in _IDS[name]:
        if (value := item.get(field)) is not None:
            away = int(value.replace("-", "")[:12], 16) / 1000 - now
            if abs(away) > hours * 3600:
                return "too_old" if away < 0 else "too_far_future"
    return None


class OpikStore:
    """Stores like a ReplacingMergeTree that is read with FINAL.

    Of rows with the same key it keeps the one with the newest `last_updated_at`; of equal ones the last.
    """

    def __init__(self) -> None:
        self.traces: dict[tuple[str, str], Document] = {}
        """The key is project and id."""
        self.spans: dict[tuple[str, str, str, str], Document] = {}
        """The key is project, trace, parent ("" for none) and id."""
        self.scores: dict[tuple[str, str, str], Document] = {}
        """The key is "traces", "spans" or "traces/threads", id and score name."""
        self._projects: dict[tuple[str, str], str] = {}

    def other_project(self, name: str, item: Document) -> str | None:
        """The other project that already has the item's id; None if there is none."""
        project = self._projects.get((name, item["id"]))
        return project if project not in (None, project_of(item)) else None

    def put(self, name: str, item: Document) -> None:
        """Stores an item of traces or spans."""
        project = project_of(item)
        self._projects[name, item["id"]] = project
        if name == "traces":
            _newest(self.traces, (project, item["id"]), item)
        else:
            _newest(
                self.spans, (project, item["trace_id"], item.get("parent_span_id") or "", item["id"]), item
            )

    def knows(self, entity: str, rated: str) -> bool:
        """Whether there is a trace or span with this id."""
        return (entity, rated) in self._projects

    @property
    def projects(self) -> list[str]:
        return sorted(set(self._projects.values()))

    def state(self) -> Document:
        """All stored objects, in a fixed order."""
        return {
            "traces": [self.traces[k] for k in sorted(self.traces)],
            "spans": [self.spans[k] for k in sorted(self.spans)],
            "scores": [{"of": k[0], **self.scores[k]} for k in sorted(self.scores)],
        }


def project_of(item: Document) -> str:
    """The project of an item, which may be Opik's default."""
    return item.get("project_name") or "Default Project"


def _newest(rows: dict[Any, Document], key: Any, item: Document) -> None:
    before = rows.get(key)
    if before is None or _updated(item) >= _updated(before):
        rows[key] = item


def _updated(item: Document) -> datetime.datetime:
    text = item.get("last_updated_at")
    return datetime.datetime.max.replace(tzinfo=datetime.UTC) if text is None else time_of(text)
