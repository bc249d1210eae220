"""Langfuse's judge: the models of its API, and the names and values that its SDK has for attributes."""

from __future__ import annotations

import functools
import importlib
import json
import typing
from collections.abc import Iterator
from typing import Any, Final

from tests.vendor import strict
from tests.vendor.inside import Request, serve

REQUIRES: Final = ("langfuse==5.0.4",)
VARIANTS: Final[tuple[dict[str, str], ...]] = (
    {"environment": "staging", "release": "r1", "usage": "all"},
    {"scores": "list"},
)
KNOWN_MISSING: Final = frozenset({"arrayValue"})
"""In OTLP, and the SDK itself sends tags as one; its model of the JSON form leaves it out."""
OF_THE_SERVER: Final = frozenset({"gen_ai.request.service_tier"})
"""Attributes that the server reads, to match its price tiers, and that the SDK has no name for."""
NUMBERS: Final = {"OBSERVATION_USAGE_DETAILS": (int,), "OBSERVATION_COST_DETAILS": (int, float)}
"""Attributes that hold a JSON object of numbers -> the types of these."""


def problems(request: Request) -> Iterator[str]:
    if request.matches("POST", "/api/public/otel/v1/traces"):
        spans: Any = importlib.import_module("langfuse.api.opentelemetry.types").OtelResourceSpan
        yield from _model(list[spans], request.body.get("resourceSpans"))
        yield from (f".{key}: unknown key" for key in request.body if key != "resourceSpans")
        for group in request.body["resourceSpans"]:
            for scope in group["scopeSpans"]:
                for span in scope["spans"]:
                    yield from _attributes(span.get("attributes", ()), span["spanId"])
    elif request.matches("POST", "/api/public/scores"):
        types: Any = importlib.import_module("langfuse.api.scores.types")
        whole = isinstance(request.body, list)
        yield from _model(list[types.CreateScoreRequest] if whole else types.CreateScoreRequest, request.body)
    else:
        yield f"{request.method} {request.path}: not a request of Langfuse's API"


def _model(hint: Any, body: Any) -> Iterator[str]:
    yield from strict.problems(hint, body, KNOWN_MISSING)
    if typing.get_origin(hint) is list:
        for item in body:
            yield from strict.parsed(typing.get_args(hint)[0], item)
    else:
        yield from strict.parsed(hint, body)


def _attributes(attributes: list[dict[str, Any]], span: str) -> Iterator[str]:
    names, prefixes = _names()
    for attribute in attributes:
        key, value = attribute["key"], attribute["value"]
        if key not in names and key not in OF_THE_SERVER and not key.startswith(prefixes):
            yield f"span {span}: {key}: not an attribute of the SDK"
        allowed = _values().get(key)
        if allowed is not None and value.get("stringValue") not in allowed:
            yield f"span {span}: {key}: {value} is not one of {sorted(allowed)}"
        if names.get(key) in NUMBERS:
            yield from _numbers(f"span {span}: {key}", value.get("stringValue"), NUMBERS[names[key]])


def _numbers(where: str, text: Any, types: tuple[type, ...]) -> Iterator[str]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict) or any(type(v) not in types for v in found.values()):
        yield f"{where}: {text!r} is not a JSON object of numbers"


@functools.cache
def _names() -> tuple[dict[str, str], tuple[str, str]]:
    """Attribute -> its name in the SDK; and what attributes of metadata start with."""
    constants = vars(importlib.import_module("langfuse._client.attributes").LangfuseOtelSpanAttributes)
    names = {v: k for k, v in constants.items() if k.isupper() and isinstance(v, str)}
    return names, (f"{constants['TRACE_METADATA']}.", f"{constants['OBSERVATION_METADATA']}.")


@functools.cache
def _values() -> dict[str, frozenset[str]]:
    """Attribute -> what the SDK allows there."""
    names = {name: key for key, name in _names()[0].items()}
    types = importlib.import_module("langfuse._client.constants").ObservationTypeLiteral
    levels = importlib.import_module("langfuse.types").SpanLevel
    return {names["OBSERVATION_TYPE"]: _literals(types), names["OBSERVATION_LEVEL"]: _literals(levels)}


def _literals(hint: Any) -> frozenset[str]:
    if typing.get_origin(hint) is typing.Literal:
        return frozenset(typing.get_args(hint))
    return frozenset().union(*map(_literals, typing.get_args(hint)))


if __name__ == "__main__":
    serve(problems)
