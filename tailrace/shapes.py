"""Values of an event in other forms than the contract's, as applications have them. Pure.

Here are those that need more than their own value: files as objects, and JSON text as an object. What a
single value tells (30.0 tokens, None for a list, empty text) is the encoder's (`compile_encoder`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tailrace.content import LIMITS, Limits, all_changes, json_text
from tailrace.records import ContentChange, DatasetRetrieval, Origin, Span, Tool, TraceEvent

FILES: Final = {"origin": "file_list", "tool": "file_urls"}
"""Body -> its field that lists files."""
JSON_TEXTS: Final = {"dataset_retrieval": ("embedding_models",), "span": ("links", "resource")}
"""Body -> its fields that hold JSON text and are not content."""
SHAPED: Final = frozenset({*FILES, *JSON_TEXTS})
"""Bodies that `shaped` looks at."""


def _is_object(value: Any) -> bool:
    t = type(value)
    return t is dict or t is list or t is tuple


def files(value: Any, field: str, limits: Limits = LIMITS, made: list[ContentChange] | None = None) -> Any:
    """A list of files, each an id, a URL, or an object as JSON text.

    A single file is a list of one. None and empty texts are left out. Values that are no file stay, for
    the encoder to refuse.

    Args:
        value: what the event has.
        field: path of the field, for errors and changes.
        limits: what is too large.
        made: gets the changes.

    Raises:
        EventTooLarge: an object is too large and is not to be cut.
    """
    if type(value) is tuple and not value:
        return value
    t = type(value)  # compared by identity: a metaclass may define ==
    if t is str or t is dict:
        value = (value,)
    elif t is not list and t is not tuple:
        return value
    return tuple(
        json_text(item, field, limits, made) if _is_object(item) else item
        for item in value
        if item is not None and not (type(item) is str and not item)
    )


def json_or_text(
    value: Any, field: str, limits: Limits = LIMITS, made: list[ContentChange] | None = None
) -> Any:
    """JSON text of an object; any other value is not changed.

    The arguments are those of `files`.

    Raises:
        EventTooLarge: it is too large and is not to be cut.
    """
    return json_text(value, field, limits, made) if _is_object(value) else value


def shaped(event: TraceEvent, limits: Limits = LIMITS) -> TraceEvent:
    """The event with files and JSON texts in the contract's form. It is the same object if they are already.

    Args:
        event: any event.
        limits: what is too large.

    Raises:
        EventTooLarge: names the field that is too large and is not to be cut.
    """
    changes: dict[str, Any] = {}
    made: list[ContentChange] = []
    if type(origin := event.origin) is Origin:
        _set(changes, "origin", origin, file_list=files(origin.file_list, "origin.file_list", limits, made))
    if type(tool := event.tool) is Tool:
        _set(changes, "tool", tool, file_urls=files(tool.file_urls, "tool.file_urls", limits, made))
    if type(found := event.dataset_retrieval) is DatasetRetrieval:
        path = "dataset_retrieval.embedding_models"
        text = json_or_text(found.embedding_models, path, limits, made)
        _set(changes, "dataset_retrieval", found, embedding_models=text)
    if type(span := event.span) is Span:
        links = json_or_text(span.links, "span.links", limits, made)
        resource = json_or_text(span.resource, "span.resource", limits, made)
        _set(changes, "span", span, links=links, resource=resource)
    if made:
        changes["content_changes"] = all_changes(event.content_changes, made)
    return msgspec.structs.replace(event, **changes) if changes else event


def _set(changes: dict[str, Any], name: str, body: Any, **values: Any) -> None:
    if any(getattr(body, field) is not value for field, value in values.items()):
        changes[name] = msgspec.structs.replace(body, **values)
