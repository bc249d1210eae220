"""What the publisher changed in an event is shown by every sink that has a place for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from connectors.mapping.changes import FIELD, NAME
from connectors.sdk.contract import Enriched
from connectors.sinks import lines
from connectors.sinks.alibaba import mapping as alibaba
from connectors.sinks.langfuse import mapping as langfuse
from connectors.sinks.opik import mapping as opik
from connectors.sinks.otlp import mapping as otlp
from connectors.sinks.weave import mapping as weave
from tailrace.records import ChangeKind, ContentChange, ParentKind
from tests.connectors.sinks import test_alibaba_mapping as llm_spans
from tests.connectors.sinks import test_otlp_mapping as spans
from tests.connectors.sinks.test_langfuse_mapping import attributes
from tests.connectors.sinks.test_opik_mapping import objects
from tests.connectors.sinks.test_weave_mapping import call
from tests.golden.events import golden

CHANGES = (
    ContentChange(field="outputs", change=ChangeKind.CUT, bytes=990_002),
    ContentChange(field="tool.tool_inputs", change=ChangeKind.CONVERTED, count=2),
)
TEXT = "outputs: cut from 990002 bytes; tool.tool_inputs: 2 values converted"


def changed(record: Enriched, changes: Any) -> Enriched:
    return msgspec.structs.replace(
        record, event=msgspec.structs.replace(record.event, content_changes=changes)
    )


def test_langfuse_has_them_in_the_metadata() -> None:
    record = golden()["tool"]
    name = f"langfuse.observation.metadata.{NAME}"
    assert attributes(changed(record, CHANGES))[name] == TEXT
    assert name not in attributes(record)


def test_opik_has_them_in_the_metadata() -> None:
    record = golden()["tool"]
    assert objects(changed(record, CHANGES))["span"]["metadata"][NAME] == TEXT
    assert NAME not in objects(record)["span"]["metadata"]


def test_otlp_has_them_as_an_attribute() -> None:
    context = spans.context(spans.OUTER, spans.RUN, spans.CALLER, ParentKind.NODE)
    event = msgspec.structs.replace(spans.WORKFLOW, content_changes=CHANGES)
    assert spans.attributes(spans.span_of(event, context))[NAME] == ("string", TEXT)
    assert NAME not in spans.attributes(spans.span_of(spans.WORKFLOW, context))


def test_weave_has_them_in_the_attributes() -> None:
    record = golden()["tool"]
    assert call(changed(record, CHANGES))["attributes"][NAME] == TEXT
    assert NAME not in call(record)["attributes"]


def test_alibaba_has_them_as_an_attribute() -> None:
    record = golden()["tool"]
    event, context = changed(record, CHANGES).event, record.context
    assert llm_spans.attributes(llm_spans.span_of(event, context))[NAME] == TEXT
    assert NAME not in llm_spans.attributes(llm_spans.span_of(record.event, context))


def test_lines_have_the_whole_event() -> None:
    found = json.loads(lines.as_json(changed(golden()["tool"], CHANGES)))["event"]
    assert msgspec.convert(found["content_changes"], list[ContentChange]) == list(CHANGES)
    assert "content_changes" not in json.loads(lines.as_json(golden()["tool"]))["event"]


@pytest.mark.parametrize("mapping", [alibaba, langfuse, opik, otlp, weave])
def test_the_field_is_decoded_for_them(mapping: Any) -> None:
    assert FIELD in mapping.FIELDS
