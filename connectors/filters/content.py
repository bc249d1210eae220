"""Content policies: what a sink gets of an event's content, field by field. Pure.

Content is sent in full, masked, hashed, as a reference, or not at all. Content means the fields that
the schema marks as content, the free attributes, and the URLs of files. Texts about an operation
(`TEXTS`) are always sent, but masked wherever content is not sent in full, unless they have a policy of
their own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from connectors.filters.masking import BUILT_IN, Masks, quoted
from tailrace.content import json_text
from tailrace.errors import ConfigError
from tailrace.oversize import CONTENT as MARKED
from tailrace.records import Kind, TraceEvent

FULL, MASKED, HASHED, REFERENCE, NONE = POLICIES = ("full", "masked", "hashed", "reference", "none")

CONTENT: Final[Mapping[str, str]] = {
    **MARKED,
    "attributes": "map",
    "origin.file_list": "text",
    "tool.file_urls": "text",
}
"""Path of a content field -> json (JSON text), text (or a list of texts), or map (of texts)."""
TEXTS: Final[Mapping[str, str]] = {
    "error": "text",
    "name": "text",
    "evaluation.label": "text",
    "suggested_question.status_message": "text",
    "moderation.preset_response": "text",
    "span.links": "json",
    "span.resource": "json",
}
"""The same for texts about an operation."""
PATHS: Final = {**CONTENT, **TEXTS}
_BODIES: Final = frozenset(path.partition(".")[0] for path in PATHS if "." in path)
_HASH: Final = re.compile(r'"?sha256:[0-9a-f]{64}"?')
_STAND_INS: Final = ('"ref:', '"sha256:')

READS: Final = frozenset(
    {"kind", "source_id", "trace_id", "workflow_run_id", "message_id", "conversation_id"}
)
"""Fields of TraceEvent that references are built from."""

_COMMON: Final = tuple((field, field) for field in ("message_id", "workflow_run_id", "trace_id"))
_RUN: Final = (("workflow_run_id", "workflow_run_id"), ("workflow_run_id", "source_id"), *_COMMON)
_NODE: Final = (("node_execution_id", "source_id"), *_COMMON)
_TRACE: Final = (("trace_id", "trace_id"), *_COMMON)
REFERENCES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    Kind.UNKNOWN: _COMMON,
    Kind.WORKFLOW_RUN: _RUN,
    Kind.NODE_EXECUTION: _NODE,
    Kind.DRAFT_NODE_EXECUTION: _NODE,
    Kind.MESSAGE: _COMMON,
    Kind.MODERATION: _COMMON,
    Kind.SUGGESTED_QUESTION: _COMMON,
    Kind.DATASET_RETRIEVAL: _COMMON,
    Kind.TOOL: _COMMON,
    Kind.GENERATE_NAME: (("conversation_id", "conversation_id"), *_COMMON),
    Kind.PROMPT_GENERATION: _TRACE,
    Kind.SPAN: _TRACE,
    Kind.FEEDBACK: (),
    Kind.EVALUATION: (),
    Kind.APP_CREATED: _COMMON,
    Kind.APP_UPDATED: _COMMON,
    Kind.APP_DELETED: _COMMON,
    Kind.REHYDRATION_FAILED: _COMMON,
    Kind.LINK: _COMMON,
}
"""Kind -> what a reference names: (name, field of TraceEvent), the first that the event has. Feedback and
evaluations have no id to look them up by."""


def reference(event: TraceEvent) -> str | None:
    """Where to look up an event's content: ``ref:<id>=<value>`` (seed 003, section 9).

    None if it cannot be looked up; feedback and evaluations have no id for that.
    """
    for name, field in REFERENCES.get(event.kind, _COMMON):
        value = getattr(event, field)
        if value:
            return f"ref:{name}={value}"
    return None


def shown(text: str) -> str:
    """The JSON text of a content field as an attribute: unchanged, but hashes and references unquoted."""
    if text.startswith(_STAND_INS):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, str) else text
    return text


class ContentPolicy:
    """One policy for all content, or one per field.

    Args:
        content: a policy, or a table path -> policy. A path is a field of TraceEvent (``inputs``), a
            field of a body (``node_execution.process_data``), a body (``tool``), or ``*`` for all
            others. Without ``*`` these are sent in full.
        masks: for masked content.
        hash_key: turns hashes into HMACs.

    Raises:
        ConfigError: names the setting.
    """

    def __init__(
        self,
        content: str | Mapping[str, str] = FULL,
        masks: Iterable[str] | None = None,
        mask_patterns: Mapping[str, str] | None = None,
        hash_key: str = "",
    ) -> None:
        by_path = policies(content)
        used = frozenset(by_path.values())
        if (masks is not None or mask_patterns) and MASKED not in used:
            name = "mask" if masks is not None else "mask_patterns"
            raise ConfigError(f"{name}: has no effect, because no content is masked; set content = masked")
        if hash_key and HASHED not in used:
            raise ConfigError("hash_key: has no effect, because no content is hashed; set content = hashed")
        self._masks = Masks(BUILT_IN if masks is None else masks, mask_patterns)
        self._key = hash_key.encode("utf-8", "surrogatepass")
        self._own: list[tuple[str, str, str]] = []
        bodies: dict[str, list[tuple[str, str, str]]] = {}
        for path, policy in by_path.items():
            outer, _, inner = path.partition(".")
            if policy != FULL:
                place = bodies.setdefault(outer, []) if inner else self._own
                place.append((inner or outer, PATHS[path], policy))
        self._bodies = tuple((body, tuple(fields)) for body, fields in bodies.items())
        self.full = not self._own and not self._bodies
        """Whether it does not change any event."""
        self.removed = frozenset(path for path, policy in by_path.items() if policy in (NONE, REFERENCE))
        """Paths whose content no sink with this policy sees."""
        self.reads = frozenset() if self.full or REFERENCE not in used else READS
        """Fields of TraceEvent that it needs besides those that it changes."""

    def apply(self, event: TraceEvent) -> TraceEvent:
        """The event as the sink gets it. Idempotent."""
        changes = self._changed(event, self._own, event)
        for name, fields in self._bodies:
            body = getattr(event, name)
            if body is not None:
                inner = self._changed(body, fields, event)
                if inner:
                    changes[name] = msgspec.structs.replace(body, **inner)
        return msgspec.structs.replace(event, **changes) if changes else event

    def _changed(
        self, record: Any, fields: Iterable[tuple[str, str, str]], event: TraceEvent
    ) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name, kind, policy in fields:
            value = getattr(record, name)
            if not value:
                continue
            changed = self._value(value, kind, policy, event)
            if changed != value:
                changes[name] = changed
        return changes

    def _value(self, value: Any, kind: str, policy: str, event: TraceEvent) -> Any:
        if kind == "map":
            return self._map(value, policy)
        if isinstance(value, (list, tuple)):
            if policy == NONE:
                return ()
            if policy == REFERENCE:
                found = reference(event)
                return () if found is None else (found,)
            return tuple(self._text(v, policy) for v in value)
        if policy == NONE:
            return None
        if policy == REFERENCE:
            found = reference(event)
            return quoted(found) if kind == "json" and found is not None else found
        if kind == "text":
            return self._text(str(value), policy)
        text = value if isinstance(value, str) else json_text(value, "content") or "null"
        return self._masks.json(text) if policy == MASKED else self._hash(text, quoted=True)

    def _text(self, value: str, policy: str) -> str:
        return self._masks.text(value) if policy == MASKED else self._hash(value, quoted=False)

    def _map(self, value: Mapping[str, str], policy: str) -> dict[str, str]:
        """Applies a policy to the values of a map.

        Names are kept, but masked if values are. With references the whole map becomes empty.
        """
        if policy == MASKED:
            return {self._masks.text(k): self._masks.text(v) for k, v in value.items()}
        return {k: self._hash(v, quoted=False) for k, v in value.items()} if policy == HASHED else {}

    def _hash(self, text: str, *, quoted: bool) -> str:
        if _HASH.fullmatch(text):
            return text  # already a hash or a reference
        raw = text.encode("utf-8", "surrogatepass")
        digest: Callable[..., Any] = hashlib.sha256
        found = hmac.new(self._key, raw, digest).hexdigest() if self._key else digest(raw).hexdigest()
        return f'"sha256:{found}"' if quoted else f"sha256:{found}"


def policies(content: str | Mapping[str, str]) -> dict[str, str]:
    """Path -> policy, for every path of `PATHS`. Raises `ConfigError`."""
    table = {"*": content} if isinstance(content, str) else dict(content)
    for path, policy in table.items():
        if policy not in POLICIES:
            where = "content" if isinstance(content, str) else f"content.{path}"
            raise ConfigError(f"{where}: there is no policy {policy!r}; known are {', '.join(POLICIES)}")
        if path != "*" and path not in PATHS and path not in _BODIES:
            known = ", ".join((*PATHS, *sorted(_BODIES)))
            raise ConfigError(f"content.{path}: is not a content field; known are *, {known}")
    rest = table.get("*", FULL)
    found = {}
    for path in PATHS:
        body = path.partition(".")[0]
        if path in table:
            found[path] = table[path]
            continue
        policy = table.get(body, rest) if body in _BODIES else rest
        found[path] = MASKED if path in TEXTS and policy != FULL else policy
    return found
