"""Payloads of the vendors' sinks, read back as spans: what each has of a trace."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from connectors.config.instances import Instance, instance
from connectors.preview.render import Rendered, render_all
from tailrace.commands.options import settings_from
from tailrace.records import TraceEvent
from tests.ingress.dify import samples

SETTINGS: Final = {
    "alibaba": ("sinks.alibaba.endpoint=http://127.0.0.1:4318", "sinks.alibaba.license_key=key"),
    "langfuse": ("sinks.langfuse.public_key=pk-lf-1", "sinks.langfuse.secret_key=sk-lf-1"),
    "opik": ("sinks.opik.api_key=key", f"sinks.opik.id_time_ms={samples.NOON_US // 1000}"),
    "otlp": ("sinks.otlp.endpoint=http://127.0.0.1:4318",),
    "weave": ("sinks.weave.api_key=key", "sinks.weave.project=shop", "sinks.weave.entity=acme"),
}
"""Sink -> what it must be told."""

Tokens = tuple[int, int, int]
"""Input, output and total."""
NONE: Final = (0, 0, 0)
Payload = dict[str, Any]


class Span(NamedTuple):
    """A span as a vendor gets it, with the tokens that the vendor adds up."""

    trace: str
    id: str
    parent: str | None
    tokens: Tokens


@functools.cache
def sink(name: str) -> Instance:
    """A sink as `tailrace render` makes it."""
    return instance(settings_from(None, None, SETTINGS[name], {}), name)


def rows(name: str, events: Iterable[TraceEvent], explain: bool = False) -> list[Rendered]:
    """What a sink makes of completed events, after the processor."""
    return list(render_all(sink(name), list(events), explain=explain))


def attributes(payload: Payload) -> dict[str, Any]:
    return {a["key"]: next(iter(a["value"].values())) for a in payload["attributes"]}


def _otel(payload: Payload, tokens: Tokens) -> list[Span]:
    return [Span(payload["traceId"], payload["spanId"], payload.get("parentSpanId") or None, tokens)]


def _usage(found: dict[str, Any], names: tuple[str, str, str]) -> Tokens:
    one, two, three = (int(found.get(name, 0)) for name in names)
    return one, two, three


_GEN_AI: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.total_tokens")
_OPENAI: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def otlp(payload: Payload) -> list[Span]:
    """Seed 003 has the tokens on runs and containers, too: only nodes that are neither are added up."""
    found = attributes(payload)
    leaf = found.get("dify.node.type") not in (None, "iteration", "loop")
    return _otel(payload, _usage(found, _GEN_AI) if leaf else NONE)


def langfuse(payload: Payload) -> list[Span]:
    if "spanId" not in payload:
        return []  # a score
    usage = json.loads(attributes(payload).get("langfuse.observation.usage_details", "{}"))
    return _otel(payload, _usage(usage, ("input", "output", "total")))


def opik(payload: Payload) -> list[Span]:
    spans = [
        Span(s["trace_id"], s["id"], s.get("parent_span_id"), _usage(s.get("usage", {}), _OPENAI))
        for s in payload.get("spans", ())
    ]
    for trace in payload.get("traces", ()):
        assert [(s.trace, s.parent) for s in spans] == [(trace["id"], None)]
    return spans


def weave(payload: Payload) -> list[Span]:
    if "feedback" in payload:
        return []
    used = [_usage(usage, _OPENAI) for usage in payload["summary"].get("usage", {}).values()]
    one, two, three = (sum(tokens[i] for tokens in used) for i in range(3))
    return [Span(payload["trace_id"], payload["id"], payload.get("parent_id"), (one, two, three))]


def alibaba(payload: Payload) -> list[Span]:
    return _otel(payload, _usage(attributes(payload), _GEN_AI))


READERS: Final[dict[str, Callable[[Payload], list[Span]]]] = {
    "alibaba": alibaba,
    "langfuse": langfuse,
    "opik": opik,
    "otlp": otlp,
    "weave": weave,
}
"""Sink -> the spans in one of its payloads."""
