"""What the Langfuse sink sends and its double answers, against the models of Langfuse's own SDK."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.otlp.rendering import as_document
from connectors.sdk.contract import Payload
from connectors.sinks.langfuse.mapping import FIELDS
from connectors.sinks.langfuse.sink import Langfuse, Score
from connectors.testing.doubles.langfuse import PROJECTS, LangfuseDouble
from tests.golden.events import golden
from tests.vendor import venvs

VERSION = "5.0.4"
SPANS = "langfuse.api.opentelemetry.types:OtelResourceSpan"
SCORE = "langfuse.api.scores.types:CreateScoreRequest"
KNOWN_MISSING = ("arrayValue",)
"""In OTLP, and the SDK itself sends tags as one; its model of the JSON form leaves it out."""
OF_THE_SERVER = {"gen_ai.request.service_tier"}
"""The server chooses the price by it (langfuse/langfuse#16204); the SDK has no name for it."""


@pytest.fixture(scope="module")
def interpreter(pytestconfig: pytest.Config) -> Path:
    return venvs.python("langfuse", VERSION, install=bool(pytestconfig.getoption("--vendors")))


def bodies() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Resource spans and scores of all golden events."""
    sink = Langfuse(Langfuse.Settings(public_key="pk-lf-1", secret_key="sk-lf-1", release="r"))
    payloads = [p for p in map(sink.map, golden(FIELDS).values()) if isinstance(p, Payload)]
    spans = [p.body for p in payloads if not isinstance(p.body, Score)]
    scores = [json.loads(p.body.data) for p in payloads if isinstance(p.body, Score)]
    return [as_document(sink.request([s]))["resourceSpans"][0] for s in spans], scores


def test_bodies_match_the_models(interpreter: Path) -> None:
    spans, scores = bodies()
    assert (len(spans), len(scores)) == (18, 6)
    checks = [(SPANS, s) for s in spans] + [(SCORE, s) for s in scores]
    assert venvs.errors(interpreter, checks, KNOWN_MISSING) == [[]] * len(checks)


def test_planted_errors_are_found(interpreter: Path) -> None:
    [span, *_], [score, *_] = bodies()
    wrong = copy.deepcopy(span)
    wrong["scopeSpans"][0]["spans"][0]["traceid"] = "x"
    typed = copy.deepcopy(span)
    typed["scopeSpans"][0]["spans"][0]["name"] = 3
    checks = [
        (SPANS, wrong),
        (SPANS, typed),
        (SCORE, {**score, "dataType": "bogus"}),
        (SCORE, {**score, "traceID": "x"}),
        (SCORE, {k: v for k, v in score.items() if k != "name"}),
        (SCORE, {**score, "timestamp": "yesterday"}),
    ]
    found = venvs.errors(interpreter, checks, KNOWN_MISSING)
    assert all(found), found
    assert found[0] == [".scopeSpans[0].spans[0].traceid: unknown key"]


def test_attributes_have_the_names_of_the_sdk(interpreter: Path) -> None:
    names = venvs.constants(interpreter, "langfuse._client.attributes:LangfuseOtelSpanAttributes")
    assert len(names) > 20
    prefixes = (names["TRACE_METADATA"] + ".", names["OBSERVATION_METADATA"] + ".")
    sent = set()
    for group in bodies()[0]:
        for attribute in group["scopeSpans"][0]["spans"][0]["attributes"]:
            sent.add(attribute["key"])
    unknown = {k for k in sent if k not in names.values() and not k.startswith(prefixes)}
    assert unknown == OF_THE_SERVER
    assert {
        names[n] for n in ("OBSERVATION_TYPE", "OBSERVATION_USAGE_DETAILS", "RELEASE", "TRACE_SESSION_ID")
    } <= sent


async def projects() -> Any:
    async with LangfuseDouble() as double, aiohttp.ClientSession() as session:
        keys = base64.b64encode(f"{double.public_key}:{double.secret_key}".encode()).decode()
        async with session.get(
            double.endpoint + PROJECTS, headers={"Authorization": f"Basic {keys}"}
        ) as answer:
            return await answer.json()


def test_the_answers_of_the_double_match_the_models(interpreter: Path) -> None:
    answers = [
        (
            "langfuse.api.scores.types:CreateScoreBatchResults",
            {"accepted": 1, "rejected": 1, "errors": [{"message": "m"}]},
        ),
        ("langfuse.api.scores.types:CreateScoreBatchResponse", {"message": "Accepted"}),
        ("langfuse.api.projects.types:Projects", asyncio.run(projects())),
    ]
    assert venvs.errors(interpreter, answers) == [[], [], []]
