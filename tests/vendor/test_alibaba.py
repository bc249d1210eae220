"""What the Alibaba Cloud sink sends, against the vendor's published conventions. Needs no network."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched, Payload
from connectors.sinks.alibaba import Alibaba
from connectors.sinks.alibaba.mapping import FIELDS, RESERVED
from connectors.testing.samples import copy, read, samples
from examples.recorded_runs.publish_runs import events
from tailrace.identity import complete
from tests.golden.events import golden
from tests.seeds.walker import readable
from tests.vendor.alibaba_conventions import SPACES, SPAN, violations

GOLDEN = golden(FIELDS)
NOW: Final = 1_800_000_000_000_000


def sink(**settings: Any) -> Alibaba:
    given = {"endpoint": "http://h", "license_key": "key", **settings}
    return Alibaba(Alibaba.Settings(**given))


def broken(sent_by: Alibaba, record: Enriched, **options: Any) -> list[str] | None:
    """None: not sent."""
    payload = sent_by.map(record)
    if not isinstance(payload, Payload):
        return None
    span = readable(sent_by.render(payload))
    return list(violations(span["resource"]["attributes"], span["attributes"], **options))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize(
    ("settings", "older"),
    [
        ({}, False),
        ({"usage": "all"}, False),
        ({"workspace": "default-cms-1-cn-hangzhou"}, False),
        ({"kinds": "seed"}, True),
    ],
)
def test_a_golden_payload_keeps_the_conventions(name: str, settings: dict[str, Any], older: bool) -> None:
    assert broken(sink(**settings), GOLDEN[name], older=older) in (None, [])


def test_a_sample_of_every_kind_keeps_the_conventions() -> None:
    found = [broken(sink(), read(copy(s, 1), FIELDS)) for s in samples().values()]
    assert [f for f in found if f] == []
    assert sum(f is not None for f in found) > 10


def test_all_recorded_runs_keep_the_conventions_and_make_whole_trees() -> None:
    ours = sink()
    records = list(enriched([complete(e, NOW) for e in events(now=NOW)], FIELDS))
    assert len(records) == 4878
    found: Counter[str] = Counter()
    parents: dict[tuple[str, str], str | None] = {}
    for record in records:
        assert isinstance(record, Enriched)
        payload = ours.map(record)
        assert isinstance(payload, Payload)
        span = readable(ours.render(payload))
        assert list(violations(span["resource"]["attributes"], span["attributes"])) == []
        found[span["attributes"]["gen_ai.span.kind"]] += 1
        parents[span["traceId"], span["spanId"]] = span.get("parentSpanId")
    traces = {trace for trace, _ in parents}
    rooted = [trace for (trace, _), parent in parents.items() if parent is None]
    assert len(parents) == 4878
    assert found["WORKFLOW"] == sum(
        isinstance(r, Enriched) and r.event.kind == "workflow_run" for r in records
    )
    assert len(rooted) == len(set(rooted))
    assert len(traces - set(rooted)) == 445 - found["WORKFLOW"]  # runs that never ended
    for (trace, _), parent in parents.items():
        assert parent is None or (trace, parent) in parents or trace not in rooted


def test_every_name_that_the_sink_may_write_is_in_the_table() -> None:
    ours = {name for name in RESERVED if name.startswith(SPACES)}
    assert ours - SPAN.keys() == set()
    assert len(ours) > 30


def test_planted_errors_are_found() -> None:
    payload = sink().map(GOLDEN["node_llm"])
    assert isinstance(payload, Payload)
    span = readable(sink().render(payload))
    resource, right = span["resource"]["attributes"], span["attributes"]
    assert list(violations(resource, right)) == []
    for changes, says in (
        ({"gen_ai.usage.totl_tokens": 1}, "gen_ai.usage.totl_tokens: unknown attribute"),
        ({"input.type": "x"}, "input.type: unknown attribute"),
        ({"gen_ai.usage.input_tokens": "12"}, "gen_ai.usage.input_tokens: is str, must be int"),
        ({"gen_ai.usage.input_tokens": True}, "gen_ai.usage.input_tokens: is bool, must be int"),
        ({"gen_ai.usage.input_tokens": -1}, "gen_ai.usage.input_tokens: is negative"),
        ({"gen_ai.span.kind": "CHAIN"}, "gen_ai.span.kind: CHAIN is no longer in the conventions"),
        ({"gen_ai.span.kind": "SPAN"}, "gen_ai.span.kind: SPAN is not an allowed value"),
        ({"gen_ai.operation.name": "enter"}, "gen_ai.operation.name: enter is not one of LLM"),
        ({"gen_ai.input.messages": "hello"}, "gen_ai.input.messages: must be a JSON array of objects"),
        ({"gen_ai.input.messages": '[{"role": "bot", "parts": []}]'}, "gen_ai.input.messages: role 'bot'"),
        (
            {"gen_ai.output.messages": '[{"role": "user", "parts": [{"type": "text"}], "x": 1}]'},
            "gen_ai.output.messages: unknown members ['x']",
        ),
        (
            {"gen_ai.response.finish_reasons": [1]},
            "gen_ai.response.finish_reasons: must be an array of strings",
        ),
    ):
        assert says in list(violations(resource, {**right, **changes})), changes
    assert "resource: acs.arms.service.feature is missing" in list(violations({"service.name": "a"}, right))
    without = {k: v for k, v in right.items() if k != "gen_ai.span.kind"}
    assert "gen_ai.span.kind is missing" in list(violations(resource, without))
