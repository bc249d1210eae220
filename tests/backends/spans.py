"""OTLP/JSON spans in one form, to compare what was sent with what a server holds. Pure.

Writers of OTLP/JSON differ in what they leave out, in numbers as text, and in the order of attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connectors.testing.doubles.received import ReceivedSpan, SpanLink

Key = tuple[str, str]
"""Trace id and span id."""
STATUS = ("unset", "ok", "error")


def normal(documents: Iterable[Mapping[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    """Key -> every span with it, in the order of the requests."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for document in documents:
        for group in document.get("resourceSpans", ()):
            resource = _attributes(group.get("resource", {}).get("attributes"))
            for scoped in group.get("scopeSpans", ()):
                scope = scoped.get("scope", {})
                about = {
                    "resource": resource,
                    "scope": (scope.get("name", ""), scope.get("version", "")),
                }
                for span in scoped.get("spans", ()):
                    one = _span(span) | about
                    found.setdefault((one["traceId"], one["spanId"]), []).append(one)
    return found


def received(spans: Iterable[Mapping[str, Any]]) -> Iterator[ReceivedSpan]:
    """Normal spans as those of the OTLP receiver's file, for the functions that draw and compare trees."""
    for span in spans:
        yield ReceivedSpan(
            request=1,
            received_at=0,
            trace_id=span["traceId"],
            span_id=span["spanId"],
            parent_span_id=span["parentSpanId"] or None,
            name=span["name"],
            kind=str(span["kind"]),
            start_ns=span["start"],
            end_ns=span["end"],
            attributes={key: _plain(value) for key, value in span["attributes"].items()},
            status=STATUS[span["status"][0]],
            status_message=span["status"][1],
            links=[SpanLink(trace_id=link[0], span_id=link[1]) for link in span["links"]],
        )


def _span(span: Mapping[str, Any]) -> dict[str, Any]:
    status = span.get("status", {})
    return {
        "traceId": span["traceId"],
        "spanId": span["spanId"],
        "parentSpanId": span.get("parentSpanId", ""),
        "traceState": span.get("traceState", ""),
        "name": span.get("name", ""),
        "kind": span.get("kind", 0),
        "start": int(span.get("startTimeUnixNano", 0)),
        "end": int(span.get("endTimeUnixNano", 0)),
        "status": (status.get("code", 0), status.get("message", "")),
        "attributes": _attributes(span.get("attributes")),
        "links": [
            (link["traceId"], link["spanId"], _attributes(link.get("attributes")))
            for link in span.get("links", ())
        ],
        "events": [
            (event["name"], int(event["timeUnixNano"]), _attributes(event.get("attributes")))
            for event in span.get("events", ())
        ],
    }


def _attributes(attributes: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Key -> type and value. A key that is there twice is an error of the caller's."""
    found = [(a["key"], _typed(a.get("value", {}))) for a in attributes or ()]
    assert len(dict(found)) == len(found), found
    return dict(found)


def _typed(value: Mapping[str, Any]) -> tuple[str, Any]:
    if not value:
        return ("none", None)
    [(kind, inner)] = value.items()
    match kind:
        case "intValue":
            return (kind, int(inner))
        case "doubleValue":
            return (kind, float(inner))
        case "arrayValue":
            return (kind, tuple(_typed(v) for v in inner.get("values", ())))
        case "kvlistValue":
            return (kind, _attributes(inner.get("values")))
    return (kind, inner)


def _plain(value: tuple[str, Any]) -> Any:
    kind, inner = value
    if kind == "arrayValue":
        return [_plain(v) for v in inner]
    return {k: _plain(v) for k, v in inner.items()} if kind == "kvlistValue" else inner
