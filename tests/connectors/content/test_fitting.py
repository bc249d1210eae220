"""Content is cut until the payload fits, and each cut is marked."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from connectors.content.fitting import fitted
from connectors.sdk.contract import Enriched, Payload, Skip
from connectors.sinks.lines import as_json
from tailrace.records import ChangeKind, NodeExecution
from tests.connectors.enriching import make_context, make_event

FIXED = 2_000
"""Bytes of a payload that are not content, at most."""


def lines(record: Enriched) -> Payload:
    """Content as a text inside JSON: quotes and line breaks need more bytes there."""
    body = as_json(record)
    return Payload(body, len(body))


@given(
    st.integers(FIXED + 500, 20_000),
    st.lists(st.text(st.sampled_from('a"\\\né'), max_size=3000), min_size=1, max_size=4),
    st.text(st.sampled_from('b"\\'), max_size=9000),
)
def test_a_payload_fits_and_what_was_cut_is_marked(most: int, texts: list[str], outputs: str) -> None:
    inputs = json.dumps(texts)
    event = make_event(
        1, inputs=inputs, outputs=json.dumps(outputs), node_execution=NodeExecution(process_data=inputs)
    )
    record = Enriched(event, make_context(event), "t", 0, 0, 0)
    after, mapped = fitted(record, lines, most)
    assert mapped.size <= most
    assert mapped == lines(after)
    json.loads(after.event.inputs)
    json.loads(after.event.outputs)
    changed = {c.field: (c.change, c.bytes) for c in after.event.content_changes}
    if after.event.inputs != inputs:
        assert changed["inputs"] == (ChangeKind.CUT, len(inputs.encode()))
    if lines(record).size <= most:
        assert after == record


def test_a_record_that_is_filtered_or_may_have_any_size_is_not_cut() -> None:
    event = make_event(1, inputs=json.dumps("x" * 10_000))
    record = Enriched(event, make_context(event), "t", 0, 0, 0)
    assert fitted(record, lambda r: Skip("kind"), 10) == (record, Skip("kind"))
    assert fitted(record, lines, 0)[0] == record
