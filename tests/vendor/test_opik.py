"""What Opik's double accepts and refuses, and the rules it has from Opik's own SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.sdk.contract import Payload
from connectors.sinks.opik.mapping import FIELDS, PROVIDERS
from connectors.sinks.opik.sink import Opik
from connectors.testing.doubles.opik_rules import SCORE_SOURCES, SOURCES, TYPES, problems, version
from tests.golden.events import golden
from tests.vendor import venvs
from tests.vendor.inside import opik as judge

pytestmark = pytest.mark.contract

TYPES_OF = "opik.rest_api.types"
MODELS = {
    "traces": f"{TYPES_OF}.trace_write:TraceWrite",
    "spans": f"{TYPES_OF}.span_write:SpanWrite",
    "scores": f"{TYPES_OF}.feedback_score_batch_item:FeedbackScoreBatchItem",
    "span_scores": f"{TYPES_OF}.feedback_score_batch_item:FeedbackScoreBatchItem",
    "thread_scores": f"{TYPES_OF}.feedback_score_batch_item_thread:FeedbackScoreBatchItemThread",
}


@pytest.fixture(scope="module")
def interpreter() -> Path:
    return venvs.python(*judge.REQUIRES)


def bodies() -> dict[str, list[Any]]:
    """Traces, spans and scores of all golden events."""
    sink = Opik(Opik.Settings(url="http://localhost:5173/api"))
    found: dict[str, list[Any]] = {name: [] for name in MODELS}
    for payload in map(sink.map, golden(FIELDS).values()):
        if isinstance(payload, Payload):
            for name, items in sink.render(payload).items():
                found.get(name, []).extend(items)
    return found


def planted() -> list[tuple[str, Any]]:
    found = bodies()
    [trace, *_], [score, *_], [of_thread] = found["traces"], found["scores"], found["thread_scores"]
    span = next(s for s in found["spans"] if "usage" in s)
    return [
        ("spans", {**span, "type": "bogus"}),
        ("spans", {**span, "usage": {"total_tokens": 1.5}}),
        ("spans", {**span, "total_estimated_cost": "a lot"}),
        ("spans", {**span, "tags": "one"}),
        ("spans", {k: v for k, v in span.items() if k != "start_time"}),
        ("traces", {**trace, "source": "bogus"}),
        ("traces", {**trace, "end_time": "yesterday"}),
        ("traces", {**trace, "error_info": {"message": "m"}}),
        ("scores", {**score, "source": "bogus"}),
        ("scores", {k: v for k, v in score.items() if k != "value"}),
        ("thread_scores", {k: v for k, v in of_thread.items() if k != "thread_id"}),
        ("thread_scores", {**of_thread, "value": "good"}),
    ]


def test_planted_errors_are_found_by_the_models_and_by_the_double(interpreter: Path) -> None:
    checks = planted()
    found = venvs.errors(interpreter, [(MODELS[name], body) for name, body in checks])
    assert all(found), [c for c, e in zip(checks, found, strict=True) if not e]
    assert all(list(problems(name, body)) for name, body in checks)


BARE = (
    "import json, sys; from tests.vendor.inside.bare import bare; bare('opik'); given = json.load(sys.stdin)"
)


def asked(interpreter: Path, code: str, given: Any = None) -> Any:
    """What this code, run with the SDK, prints as JSON about `given`."""
    return json.loads(venvs.run(interpreter, ["-c", f"{BARE}; {code}"], json.dumps(given)))


def test_ids_are_version_7_for_the_sdk_too(interpreter: Path) -> None:
    found = bodies()
    ids = {
        i[k]
        for items in found.values()
        for i in items
        for k in ("id", "trace_id", "parent_span_id")
        if k in i
    }
    others = ["", "x", "00000003-0000-4000-8000-000000000003"]
    code = "from opik.id_helpers import is_valid_uuid_v7 as v; print(json.dumps([v(i) for i in given]))"
    assert asked(interpreter, code, [*sorted(ids), *others]) == [True] * len(ids) + [False] * 3
    assert all(version(i) == 7 for i in ids)
    made = asked(
        interpreter,
        "from opik.id_helpers import generate_id as g; print(json.dumps([g() for _ in range(20)]))",
    )
    assert all(version(i) == 7 for i in made)


def test_the_error_texts_of_the_double_are_those_of_the_sdk(interpreter: Path) -> None:
    code = (
        f"import typing, {TYPES_OF} as t, opik.types as o\n"
        "of = lambda u: sorted(a for p in typing.get_args(u) if typing.get_origin(p) is typing.Literal for a "
        "in typing.get_args(p))\n"
        "print(json.dumps([of(t.SpanWriteType), of(t.TraceWriteSource), of(t.FeedbackScoreBatchItemSource),"
        " sorted(p.value for p in o.LLMProvider)]))"
    )
    types, sources, score_sources, providers = asked(
        interpreter, code.replace("; import typing", "\nimport typing")
    )
    assert (types, sources, score_sources) == (sorted(TYPES), sorted(SOURCES), sorted(SCORE_SOURCES))
    assert set(PROVIDERS.values()) <= set(providers)


def test_the_rate_limit_header_is_that_of_the_sdk(interpreter: Path) -> None:
    code = (
        "from opik.rate_limit.rate_limit import parse_rate_limit as p; "
        "print(json.dumps(p({'RateLimit-Reset': '12'}).retry_after()))"
    )
    assert asked(interpreter, code) == 12
