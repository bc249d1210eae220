"""What the Weave sink sends, and what its double accepts and refuses, against the models of Weave's SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.sdk.contract import Payload
from connectors.sinks.weave.mapping import FIELDS
from connectors.sinks.weave.sink import Weave
from connectors.testing.doubles.request_rules import RequestRefused
from connectors.testing.doubles.weave_rules import feedback_of, problems
from tests.golden.events import FILE, golden
from tests.vendor import venvs
from tests.vendor.inside import weave as judge

pytestmark = pytest.mark.contract
SDK = "weave.vendor.weave_server_sdk"
READER = f"""
import datetime, importlib, json, sys, typing
import pydantic
from tests.vendor.inside.bare import bare
bare("weave")
CALLS = importlib.import_module("{SDK}.types.v2_call_complete_params").Batch
FEEDBACK = importlib.import_module("{SDK}.types.feedback_replace_params").FeedbackReplaceParams
def unknown(model, body):
    return [f"{{key}}: unknown key" for key in body if key not in typing.get_type_hints(model)]
for line in sys.stdin:
    kind, body = json.loads(line)
    model = CALLS if kind == "call" else FEEDBACK
    found = unknown(model, body)
    try:
        pydantic.TypeAdapter(model).validate_python(body)
    except pydantic.ValidationError as e:
        found.append(str(e))
    for key in ("started_at", "ended_at"):
        try:
            if key in body and datetime.datetime.fromisoformat(body[key]).tzinfo is None:
                found.append(f"{{key}}: no zone")
        except (TypeError, ValueError) as e:
            found.append(f"{{key}}: {{e}}")
    print(json.dumps(found))
"""
"""Reads kind and body a line; prints what Weave's models say, with unknown keys and odd times as errors."""


@pytest.fixture(scope="module")
def interpreter() -> Path:
    return venvs.python(*judge.REQUIRES)


def bodies() -> list[tuple[str, Any]]:
    """Calls and feedback of all golden events."""
    sink = Weave(Weave.Settings(api_key="key", project="shop", entity="acme"))
    found: list[tuple[str, Any]] = []
    for payload in map(sink.map, golden(FIELDS).values()):
        if isinstance(payload, Payload):
            shown = sink.render(payload)
            found += [("call", shown)] if "op_name" in shown else []
            found += [("feedback", each) for each in shown.get("feedback", ())]
    return found


def errors(interpreter: Path, checks: list[tuple[str, Any]]) -> list[list[str]]:
    lines = "".join(json.dumps(check) + "\n" for check in checks)
    found = [json.loads(line) for line in venvs.run(interpreter, ["-c", READER], lines).splitlines()]
    assert len(found) == len(checks)
    return found


def refused(kind: str, body: Any) -> bool:
    """Whether the double refuses it."""
    if kind == "call":
        return bool(list(problems(body)))
    try:
        feedback_of(body, replaces=True)
    except RequestRefused:
        return True
    return False


def test_bodies_match_the_models(interpreter: Path) -> None:
    found = bodies()
    files = [json.loads(file.read_text()) for file in (FILE.parent / "weave").glob("*.json")]
    kinds = [kind for kind, _ in found]
    assert kinds.count("call") == sum("op_name" in payload for payload in files) > 10
    assert kinds.count("feedback") == sum(len(payload.get("feedback", ())) for payload in files) > 3
    assert errors(interpreter, found) == [[]] * len(found)


def test_planted_errors_are_found_by_the_models_and_by_the_double(interpreter: Path) -> None:
    found = bodies()
    call = next(body for kind, body in found if kind == "call" and "usage" in body["summary"])
    feedback = next(body for kind, body in found if kind == "feedback")
    planted = [
        *(
            ("call", {k: v for k, v in call.items() if k != name})
            for name in ("ended_at", "inputs", "summary")
        ),
        ("call", {**call, "parentId": "x"}),
        ("call", {**call, "started_at": "yesterday"}),
        ("call", {**call, "started_at": "2026-03-01T12:00:00"}),
        ("call", {**call, "inputs": "text"}),
        ("call", {**call, "op_name": 3}),
        *(
            ("feedback", {k: v for k, v in feedback.items() if k != name})
            for name in ("payload", "weave_ref", "feedback_id")
        ),
        ("feedback", {**feedback, "payload": "text"}),
        ("feedback", {**feedback, "emoji": "x"}),
    ]
    said = errors(interpreter, planted)
    assert all(said), [check for check, e in zip(planted, said, strict=True) if not e]
    assert all(refused(kind, body) for kind, body in planted)
