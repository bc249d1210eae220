"""The rules of Weave's server for requests, and how its database merges. Pure.

They follow the validators of the server code in weave 0.53 and the models of weave 0.54.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from connectors.testing.doubles.received import ReceivedSpan
from connectors.testing.doubles.request_rules import RequestRefused

MOST_BYTES: Final = 32 * 1024 * 1024
ROW_BYTES: Final = 3_670_016
"""3.5 MiB: most bytes of a call's JSON columns, as the server's Python writes them."""
PAYLOAD_BYTES: Final = 1024 * 1024
MAX_NOTE: Final = 1024
MAX_OP: Final = 128
MAX_DISPLAY: Final = 1024
EXCEEDED: Final = {"_weave": {"error": "<EXCEEDS_LIMITS>"}}
"""What the server puts in place of a column of a call that is too large."""
REDACTED: Final = "REDACTED"
REACTION: Final = "wandb.reaction.1"
NOTE: Final = "wandb.note.1"
Document = dict[str, Any]

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX_16: Final = re.compile(r"[0-9a-f]{16}")
_HEX_32: Final = re.compile(r"[0-9a-f]{32}")
_SECRETS: Final = frozenset(
    {
        "authheaders",
        "authorization",
        "authtoken",
        "awsaccesskey",
        "awsaccesskeyid",
        "bearertoken",
        "vertexcredentials",
        "webhookkey",
        "webhooksecret",
    }
)
_SECRET_ENDS: Final = (
    "accesstoken",
    "apikey",
    "apitoken",
    "clientsecret",
    "privatekey",
    "refreshtoken",
    "secretaccesskey",
    "secretkey",
    "sessiontoken",
)
MOST_LEVELS: Final = 200
"""Most levels of a request's nested values."""
_MOST_TEXTS: Final = 8
"""Most levels of JSON in texts in which the server looks for references."""
_OUTSIDE: Final = "weave:///"
_INSIDE: Final = "weave-trace-internal:///"
_REF: Final = re.compile(r"weave:///([^/]+/[^/]+)/call/([^/]+)")
COLUMNS: Final = ("attributes", "inputs", "output", "summary")
_REDACTED_COLUMNS: Final = frozenset({"attributes", "inputs"})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_call_id(value: Any) -> bool:
    return isinstance(value, str) and bool(_UUID.fullmatch(value) or _HEX_16.fullmatch(value))


def _is_trace_id(value: Any) -> bool:
    return isinstance(value, str) and bool(_UUID.fullmatch(value) or _HEX_32.fullmatch(value))


def time_of(text: str) -> datetime.datetime:
    """Parses an ISO 8601 time with a zone. Raises ValueError."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no time zone")
    return time.astimezone(datetime.UTC)


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and 1900 <= time_of(value).year < 2263
    except (ValueError, OverflowError):
        return False


def _is_summary(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    usage, counts = value.get("usage", {}), value.get("status_counts", {})
    return (
        isinstance(usage, dict)
        and all(isinstance(of, dict) for of in usage.values())
        and isinstance(counts, dict)
        and all(type(n) is int for n in counts.values())
    )


_REQUIRED: Final = (
    "project_id",
    "id",
    "op_name",
    "trace_id",
    "started_at",
    "ended_at",
    "attributes",
    "inputs",
    "summary",
)
_CALL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "project_id": _is_text,
    "id": _is_call_id,
    "op_name": lambda v: isinstance(v, str) and 0 < len(v) <= MAX_OP,
    "display_name": lambda v: isinstance(v, str) and len(v) <= MAX_DISPLAY,
    "trace_id": _is_trace_id,
    "parent_id": _is_call_id,
    "thread_id": _is_text,
    "turn_id": _is_text,
    "started_at": _is_time,
    "ended_at": _is_time,
    "exception": _is_text,
    "attributes": _is_object,
    "inputs": _is_object,
    "output": lambda v: True,
    "summary": _is_summary,
    "wb_run_id": _is_text,
}
_FEEDBACK: Final[Mapping[str, Callable[[Any], bool]]] = {
    "project_id": _is_text,
    "weave_ref": lambda v: isinstance(v, str) and _REF.fullmatch(v) is not None,
    "feedback_type": lambda v: isinstance(v, str) and bool(v),
    "payload": _is_object,
    "id": lambda v: isinstance(v, str) and _UUID.fullmatch(v) is not None,
    "creator": _is_text,
}
_REPLACEMENT: Final = {**_FEEDBACK, "feedback_id": _is_text}


def calls_of(document: Any, project_id: str) -> list[Document]:
    """The calls of a batch. Raises `RequestRefused` if one of them is not valid, or of another project."""
    batch = document.get("batch") if isinstance(document, dict) else None
    if not isinstance(batch, list) or not all(isinstance(call, dict) for call in batch):
        raise RequestRefused(422, "body.batch: Input should be a valid list")
    found = [f"batch.{i}.{problem}" for i, call in enumerate(batch) for problem in problems(call)]
    found += [
        f"batch.{i}.project_id: is not that of the path"
        for i, call in enumerate(batch)
        if call.get("project_id") != project_id
    ]
    if found:
        raise RequestRefused(422, "; ".join(found[:5]))
    return batch


def problems(call: Document) -> Iterator[str]:
    """What is not valid in a complete call, as sentences."""
    for field in _REQUIRED:
        if call.get(field) is None:
            yield f"{field}: Field required"
    for field, value in call.items():
        right = _CALL.get(field)
        if right is None:
            yield f"{field}: Extra inputs are not permitted"
        elif value is not None and not right(value):
            yield f"{field}: is not valid: {str(value)[:60]!r}"
    if call.get("parent_id") is not None and call.get("parent_id") == call.get("id"):
        yield "parent_id: a call cannot be its own parent"


def feedback_of(document: Any, replaces: bool = False) -> Document:
    """An item of feedback. Raises `RequestRefused` if it is not valid.

    Args:
        document: The body of a request.
        replaces: Whether it is to take the place of another, its `feedback_id`, which is left out here.
    """
    if not isinstance(document, dict):
        raise RequestRefused(422, "body: Input should be a valid dictionary")
    named = _REPLACEMENT if replaces else _FEEDBACK
    for field in ("project_id", "weave_ref", "feedback_type", "payload", *(["feedback_id"] * replaces)):
        if document.get(field) is None:
            raise RequestRefused(422, f"{field}: Field required")
    for field, value in document.items():
        right = named.get(field)
        if right is None or (value is not None and not right(value)):
            raise RequestRefused(422, f"{field}: is not valid: {str(value)[:60]!r}")
    kind, payload = document["feedback_type"], document["payload"]
    if kind == REACTION and payload.get("emoji") not in ("👍", "👎"):
        raise RequestRefused(400, "Value of emoji key in payload must be exactly one emoji")
    note = payload.get("note")
    if kind == NOTE and not (isinstance(note, str) and 1 <= len(note) <= MAX_NOTE):
        raise RequestRefused(400, f"Invalid payload for feedback_type {kind}")
    if kind.startswith("wandb.") and kind not in (REACTION, NOTE):
        raise RequestRefused(400, f"{kind} needs references that the request does not have")
    if len(json.dumps(payload)) > PAYLOAD_BYTES:
        raise RequestRefused(400, "Feedback payload too large")
    ref = _REF.fullmatch(document["weave_ref"])
    if ref is None or ref[1] != document["project_id"]:
        raise RequestRefused(400, "weave_ref is of another project")
    return {name: value for name, value in document.items() if name != "feedback_id"}


def purged_id(document: Any) -> str:
    """The id of the feedback that a purge is for. Raises `RequestRefused`: Weave purges by id only."""
    try:
        field, literal = document["query"]["$expr"]["$eq"]
        if field == {"$getField": "id"} and isinstance(literal["$literal"], str):
            return str(literal["$literal"])
    except (KeyError, TypeError, ValueError):
        pass
    raise RequestRefused(400, "Can only purge feedback by specifying one or more feedback ids")


def redacted(value: Any) -> Any:
    """A value with what the server takes for credentials replaced: texts that are not empty, by their key."""
    if isinstance(value, dict):
        return {k: REDACTED if _is_secret(k, v) else redacted(v) for k, v in value.items()}
    return [redacted(v) for v in value] if isinstance(value, list) else value


def _is_secret(key: str, value: Any) -> bool:
    name = key.replace("_", "").replace("-", "").lower()
    return isinstance(value, str) and bool(value) and (name in _SECRETS or name.endswith(_SECRET_ENDS))


def references(value: Any, level: int = 0, texts: int = 0) -> Iterator[str]:
    """The projects of the references in a request, which the server looks up before it stores anything.

    It takes every text that starts with `weave:///` for one, also in JSON that is itself a text.

    Args:
        value: The request, or a part of it.
        level: How deep the part is in it.
        texts: In how many texts of JSON it is.

    Raises:
        RequestRefused: One is not valid, or the request is nested too deeply.
    """
    if level > MOST_LEVELS:
        raise RequestRefused(413, "Request too large")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from references(part, level + 1, texts)
    elif not isinstance(value, str):
        return
    elif value.startswith(_OUTSIDE):
        entity, _, rest = value.removeprefix(_OUTSIDE).partition("/")
        project, slash, _ = rest.partition("/")
        if not slash:
            raise RequestRefused(400, f"Invalid URI: {value[:60]}")
        yield f"{entity}/{project}"
    elif value.startswith(_INSIDE):
        raise RequestRefused(400, "Encountered unexpected internal ref format.")
    elif texts < _MOST_TEXTS and (_OUTSIDE in value or _INSIDE in value):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from references(found, level, texts + 1)


class WeaveStore:
    """Stores as Weave's database does, a ReplacingMergeTree.

    Of calls with the same key it keeps the last, as after a merge. Of feedback it keeps every row, as before
    one: Weave reads what is not merged yet, its server in memory never merges, and the key of feedback has
    the user of the API key in it.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[str, datetime.datetime, str], Document] = {}
        """The key is project, start and id: the same id with another start is another call."""
        self.feedback: list[Document] = []
        """In the order of their arrival; several may have the same id."""
        self.spans: dict[tuple[str, str, str], ReceivedSpan] = {}
        """Spans of the Agents view; the key is project, trace and span."""
        self.stripped: list[str] = []
        """Ids of the calls of which the server replaced columns, because they were too large."""

    def put(self, call: Document) -> None:
        """Stores a valid call."""
        columns = {
            name: redacted(call.get(name)) if name in _REDACTED_COLUMNS else call.get(name)
            for name in COLUMNS
        }
        sizes = {name: len(json.dumps(value)) for name, value in columns.items()}
        if sum(sizes.values()) > ROW_BYTES:
            self.stripped.append(call["id"])
        while sum(sizes.values()) > ROW_BYTES:
            largest = max(sizes, key=lambda name: sizes[name])
            if columns[largest] == EXCEEDED:
                break
            columns[largest], sizes[largest] = EXCEEDED, len(json.dumps(EXCEEDED))
        started_at = time_of(call["started_at"])
        self.calls[call["project_id"], started_at, call["id"]] = {**call, **columns}

    def span(self, project_id: str, span: ReceivedSpan) -> None:
        """Stores a span of the Agents view."""
        self.spans[project_id, span.trace_id, span.span_id] = span

    def comment(self, feedback: Document) -> None:
        """Stores a valid item of feedback, beside others with the same id."""
        self.feedback.append(feedback)

    def replace(self, feedback: Document, former: str) -> None:
        """Stores a valid item of feedback after all with the id `former` are deleted."""
        self.purge(feedback["project_id"], former)
        self.comment(feedback)

    def purge(self, project_id: str, wanted: str) -> None:
        """Deletes all feedback with this id, if there is some."""
        self.feedback = [f for f in self.feedback if (f["project_id"], f.get("id")) != (project_id, wanted)]

    def state(self) -> dict[str, list[Document]]:
        """All stored objects, in a fixed order."""
        return {
            "calls": [self.calls[k] for k in sorted(self.calls)],
            "feedback": sorted(self.feedback, key=lambda f: (f["project_id"], f["weave_ref"], f["id"])),
        }

    def cycles(self) -> list[str]:
        """Ids of calls that are among their own ancestors."""
        parents = {call["id"]: call.get("parent_id") for call in self.calls.values()}
        found = []
        for call, parent in parents.items():
            seen, at = set[str](), parent
            while at is not None and at != call and at not in seen:
                seen.add(at)
                at = parents.get(at)
            if at == call:
                found.append(call)
        return sorted(found)

    def usage(self, trace_id: str | None = None) -> dict[str, dict[str, int]]:
        """Tokens by model, summed over calls as Weave does; of one trace or of all."""
        found: dict[str, dict[str, int]] = {}
        for call in self.calls.values():
            if trace_id in (None, call["trace_id"]):
                for model, counts in call["summary"].get("usage", {}).items():
                    into = found.setdefault(model, {})
                    for name, n in counts.items():
                        if type(n) is int:
                            into[name] = into.get(name, 0) + n
        return found
