"""The record filter: what a sink gets, sampling, and the settings of both."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.config.instances import instance
from connectors.consumer.reader import ALWAYS
from connectors.filters.record_filter import RecordFilter, current, sampled
from connectors.filters.settings import FilterSettings, from_text
from connectors.sdk.contract import Enriched, Skip
from connectors.sinks.otlp.mapping import FIELDS
from tailrace.errors import ConfigError
from tailrace.kinds import DROPPABLE
from tailrace.records import Kind, TraceContext, TraceEvent
from tailrace.settings import Settings
from tests.connectors.enriching import make_context, make_event
from tests.connectors.generated import contexts, events
from tests.golden.events import golden


def admission(**settings: Any) -> RecordFilter:
    return RecordFilter(msgspec.convert(from_text(settings), FilterSettings))


def record(i: int = 0, context: dict[str, Any] | None = None, **changes: Any) -> Enriched:
    event = make_event(i, **changes)
    return Enriched(event, make_context(event, **(context or {})), "trace.enriched", 0, i, 0)


def outcome(rules: RecordFilter, found: Enriched) -> str:
    """Why the record is filtered, or "passes"."""
    admitted = rules.admit(found)
    return admitted.reason if isinstance(admitted, Skip) else "passes"


def test_nothing_configured_is_the_same_record_and_no_work() -> None:
    rules = admission()
    assert rules.admit is current
    found = record()
    assert rules.admit(found) is found
    assert outcome(rules, record(context={"marks": ("clock_skew",)})) == "passes"
    assert rules.reads == frozenset()


@pytest.mark.parametrize("rules", [admission(), admission(tenants=["tenant"])])
def test_superseded_revisions_are_left_out_for_every_sink(rules: RecordFilter) -> None:
    assert outcome(rules, record(context={"marks": ("clock_skew", "superseded")})) == "superseded"


def test_an_evaluation_of_what_is_left_out_is_left_out_too() -> None:
    """Its operation's place is taken by another one, which it does not judge."""
    run: dict[str, Any] = {"kind": Kind.EVALUATION, "evaluation_target": "operation", "parent_id": "run-0"}
    on_run = {"parent_source_id": "run-0", "parent_kind": "operation", "root_run_id": "run-0"}
    node = run | {"parent_id": "node-7"}
    on_node = on_run | {"parent_source_id": "node-7", "parent_span_id": b"nodenode"}
    whole = run | {"evaluation_target": "trace", "parent_id": None}
    on_trace = {"parent_source_id": None, "parent_span_id": None, "parent_kind": "none"}
    no_runs = admission(drop_kinds=["workflow_run"])
    assert outcome(no_runs, record(context=on_run, **run)) == "target"
    assert outcome(no_runs, record(context=on_node, **node)) == "passes"
    assert outcome(no_runs, record(context=on_trace, **whole)) == "passes"
    assert outcome(admission(drop_kinds=["message"]), record(context=on_run, **run)) == "passes"
    on_message = on_run | {"parent_source_id": "m", "parent_span_id": b"of m of m"[:8]}
    of_message = run | {"parent_id": "m", "message_id": "m"}
    assert outcome(admission(drop_kinds=["message"]), record(context=on_message, **of_message)) == "target"
    assert outcome(admission(drop_kinds=["evaluation"]), record(context=on_node, **node)) == "kind"


@pytest.mark.parametrize(
    ("names", "own", "says"),
    [
        (["a", "b"], "a", "passes"),
        (["a", "b"], "c", "filtered"),
        (["a"], None, "filtered"),
        (["!a", "!b"], "a", "filtered"),
        (["!a"], "c", "passes"),
        (["!a"], None, "filtered"),
        (["!a"], "", "filtered"),
        (["! a"], "a", "filtered"),
        ([" !a "], "a", "filtered"),
        ([" a"], "a", "passes"),
    ],
)
def test_lists_of_names_include_or_exclude(names: list[str], own: str | None, says: str) -> None:
    for setting, field in (("tenants", "tenant_id"), ("environments", "environment"), ("apps", "app_id")):
        reason = setting[:-1] if says == "filtered" else "passes"
        changes: dict[str, Any] = {field: own}
        assert outcome(admission(**{setting: names}), record(**changes)) == reason


def test_an_event_without_a_tenant_has_that_of_its_trace() -> None:
    of_acme = record(tenant_id=None, context={"tenant_id": "acme"})
    assert outcome(admission(tenants=["!acme"]), of_acme) == "tenant"
    assert outcome(admission(tenants=["acme"]), of_acme) == "passes"
    own = record(tenant_id="acme", context={"tenant_id": "other"})
    assert outcome(admission(tenants=["acme"]), own) == "passes"


def test_the_application_is_that_of_the_root() -> None:
    rules = admission(apps=["outer"])
    assert outcome(rules, record(app_id="inner", context={"app_id": "outer"})) == "passes"
    assert outcome(rules, record(app_id="outer", context={"app_id": "other"})) == "app"
    assert outcome(rules, record(app_id="outer")) == "passes"


def test_every_kind_that_may_be_left_out_is() -> None:
    records = golden()
    for kind in DROPPABLE:
        rules = admission(drop_kinds=[kind])
        for name, found in records.items():
            assert outcome(rules, found) == ("kind" if found.event.kind == kind else "passes"), name


def test_children_of_a_filtered_run_get_its_parent() -> None:
    rules = admission(drop_kinds=["workflow_run"])
    found = rules.admit(golden()["node_llm"])
    assert isinstance(found, Enriched)
    assert (found.context.parent_kind, found.context.parent_source_id) == (
        "message",
        golden()["message"].event.source_id,
    )
    assert found.event == golden()["node_llm"].event


# -- sampling
@given(st.text(), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_larger_sample_has_all_of_a_smaller_one(root: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if sampled(root, int(small * 2**64)):
        assert sampled(root, int(large * 2**64))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_sample_has_its_share_of_the_traces(share: float) -> None:
    n = 20_000
    rules = admission(sample=share)
    taken = sum(outcome(rules, record(context={"root_trace_id": f"trace-{i}"})) == "passes" for i in range(n))
    assert abs(taken - n * share) < 5 * math.sqrt(n * share * (1 - share))


def test_the_verdict_is_the_same_in_every_instance_and_release() -> None:
    """These traces are always in a sample of a tenth.

    A replay must send what was sent before.
    """
    found = [i for i in range(60) if sampled(f"run-{i}", 2**64 // 10)]
    assert found == SAMPLE


SAMPLE = [3, 6, 28, 29, 35, 46, 48]


def test_traces_are_whole_and_what_has_no_trace_passes() -> None:
    rules = admission(sample=0.3)
    outcomes: dict[str, Counter[str]] = {}
    for i in range(400):
        root = f"root-{i % 40}"
        changes: dict[str, Any] = {"kind": Kind.TOOL} if i % 3 else {}
        found = record(i, {"root_trace_id": root}, trace_id=f"own-{i}", **changes)
        outcomes.setdefault(root, Counter())[outcome(rules, found)] += 1
    assert all(len(each) == 1 for each in outcomes.values())
    assert {next(iter(each)) for each in outcomes.values()} == {"passes", "sampled_out"}
    for i in range(50):
        gone = record(i, {"root_trace_id": None}, kind=Kind.APP_DELETED, trace_id=None, app_id=f"app-{i}")
        assert outcome(rules, gone) == "passes"


# -- settings
@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"tenants": ["a", "!b"]}, "tenants: mixes names with and without !"),
        ({"tenants": ["!!a"]}, "tenants: !!a has more than one !"),
        ({"apps": ["! !a"]}, "apps: !!a has more than one !"),
        ({"environments": "!a, !!b"}, "environments: !!b has more than one !"),
        ({"tenants": ["! "]}, "tenants: has an empty name"),
        ({"apps": ["a", " "]}, "apps: has an empty name"),
        ({"environments": ["!"]}, "environments: has an empty name"),
        ({"apps": ["!"]}, "apps: has an empty name"),
        ({"drop_kinds": ["spam"]}, "drop_kinds: there is no kind 'spam'; known are workflow_run,"),
        ({"drop_kinds": ["link"]}, "drop_kinds: there is no kind 'link'"),
        ({"drop_kinds": ["node_execution"]}, "drop_kinds: node_execution cannot be left out"),
        ({"drop_kinds": "span,message"}, "drop_kinds: span cannot be left out"),
        ({"sample": 0}, "sample: "),
        ({"sample": 1.5}, "sample: "),
        ({"sample": "much"}, "sample: "),
        ({"content": "masc"}, "content: there is no policy 'masc'"),
        ({"content": "inputs=none,x"}, "content: entry 2 is not key=value"),
        ({"mask": "email"}, "mask: has no effect, because no content is masked"),
        ({"hash_key": "k3y"}, "hash_key: has no effect, because no content is hashed"),
        ({"environments": 3}, "environments: "),
    ],
)
def test_wrong_settings_are_named(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        instance(Settings(sinks={"console": table}), "console", {})
    assert str(e.value).startswith(f"sinks.console.{says}")
    assert "k3y" not in str(e.value)


def test_settings_as_variables_write_them() -> None:
    found = from_text(
        {"tenants": "a, b", "content": "inputs=hashed,*=none", "mask": "", "mask_patterns": "x=a{1,2}\ny=b"}
    )
    assert found == {
        "tenants": ["a", "b"],
        "content": {"inputs": "hashed", "*": "none"},
        "mask": [],
        "mask_patterns": {"x": "a{1,2}", "y": "b"},
    }
    nested = from_text({"content": {"node_execution": {"process_data": "none"}, "*": "full"}})
    assert nested == {"content": {"node_execution.process_data": "none", "*": "full"}}


def test_an_instance_reads_what_its_rules_need_beside_what_its_sink_reads() -> None:
    table = {
        "type": "otlp",
        "endpoint": "http://x",
        "environments": "prod",
        "content": "reference",
        "drop_kinds": "message",
    }
    made = instance(Settings(sinks={"eu": table}), "eu", {})
    assert made.fields is not None
    assert made.fields == FIELDS | {"environment", "conversation_id"} | (
        made.fields & {"parent_node_execution_id"}
    )
    plain = instance(Settings(sinks={"otlp": {"endpoint": "http://x"}}), "otlp", {})
    assert (plain.fields, plain.admit) == (FIELDS, current)
    assert {"kind", "tenant_id", "app_id", "trace_id"} <= ALWAYS, (
        "what the filter uses and does not name in `reads`"
    )


def test_a_route_is_an_instance_and_a_filter() -> None:
    sinks = {
        "eu": {"type": "console", "tenants": ["acme"]},
        "us": {"type": "console", "tenants": ["!acme"]},
    }
    eu, us = (instance(Settings(sinks=sinks), name, {}) for name in sinks)
    for tenant, route in (("acme", ["eu"]), ("other", ["us"]), (None, [])):
        passes = [i.name for i in (eu, us) if not isinstance(i.admit(record(tenant_id=tenant)), Skip)]
        assert passes == route


tables = st.fixed_dictionaries(
    {},
    optional={
        "tenants": st.sampled_from([["a"], ["!a"]]),
        "apps": st.sampled_from([["a"], ["!a"]]),
        "environments": st.sampled_from([["a"], ["!a"]]),
        "drop_kinds": st.lists(st.sampled_from(DROPPABLE), max_size=3),
        "sample": st.sampled_from([0.5, 1.0]),
        "content": st.sampled_from(["full", "masked", "hashed", "reference", "none", "inputs=none,*=masked"]),
    },
)


@given(tables, events, contexts)
def test_any_record_passes_any_rules_or_is_skipped_and_a_second_time_changes_nothing(
    table: dict[str, Any], event: TraceEvent, context: TraceContext
) -> None:
    rules = admission(**table)
    found = rules.admit(Enriched(event, context, "trace.enriched", 0, 0, 0))
    if isinstance(found, Enriched):
        assert rules.admit(found) == found
        assert (found.event.event_id, found.context.sequence) == (event.event_id, context.sequence)
