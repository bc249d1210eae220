"""The recount on small examples: each line of the documents' tables, and traces of each shape."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from tailrace import codec
from tailrace.identity import complete
from tailrace.ids import otel_trace_id
from tailrace.metrics.row_period import ROW_PERIOD_US
from tailrace.publisher import Publisher
from tailrace.records import (
    Kind,
    MetricRow,
    MetricTotal,
    PartitionPosition,
    SlowOperation,
    SpanKind,
    TokenClasses,
    TraceEvent,
    TraceSummary,
)
from tailrace.settings import Settings
from tailrace.topics import TopicNames
from tests.harness import mixed
from tests.harness.kept import MOST, Record, compare, kept_of, read_kept, read_log
from tests.harness.recount import Counted, Counts, Logged, Recount, metrics, recount, summaries
from tests.harness.recount_events import HOUR
from tests.harness.recount_metrics import SHAPES, observations

NOW = 1_763_700_000_000_000
"""The start of a minute and of an hour."""
SECOND = 1_000_000
MS = NOW // 1000
K = Kind


def event(kind: Kind, *, at: int = 0, took: int = 15_000, **fields: Any) -> TraceEvent:
    """A completed event of tenant t and application a, `at` microseconds after NOW.

    Its price is written as it is, as another producer may write it.
    """
    values = {"kind": kind, "source_id": "x", "tenant_id": "t", "app_id": "a", "started_at": NOW + at}
    made = msgspec.convert({**values, "ended_at": NOW + at + took, **fields}, TraceEvent)
    done = complete(msgspec.structs.replace(made, total_price=None), NOW)
    return msgspec.structs.replace(done, total_price=made.total_price)


def estimate(e: TraceEvent) -> int | None:
    """A millionth of a dollar for each input token, for one model."""
    return (e.input_tokens or 0) * 1_000_000 if e.model_name == "org/m" else None


def normalise(provider: str | None, model: str | None) -> tuple[str | None, str | None]:
    return provider and provider.split("/")[-1].upper(), model and model.split("/")[-1]


def log(*events: TraceEvent, appended_at_ms: int = MS) -> list[Logged]:
    return [Logged(0, 10 + i, appended_at_ms, e) for i, e in enumerate(events)]


# -- metrics: what one event counts
def seen(e: TraceEvent) -> list[str]:
    """Metric, labels without those that every series has, and value."""
    found = []
    for metric, labels, value in observations(e, estimate, normalise):
        texts = dict(labels)
        assert (texts.pop("tenant_id"), texts.pop("app_id")) == ("t", "a")
        found.append(" ".join([metric, *(f"{k}={v}" for k, v in sorted(texts.items())), str(value)]))
    return sorted(found)


MODEL: dict[str, Any] = {"model_provider": "l/o/p", "model_name": "org/m"}
NODE = "node_type=llm model_provider=l/o/p"
PARTS = "model_name=org/m model_provider=l/o/p"
CALL = "gen_ai.operation.name=chat gen_ai.provider.name=P gen_ai.request.model=m"
INFERENCE = "gen_ai.client.inference.usage."
OF = f"{CALL} gen_ai.token.modality"
TOKENS = "model_name=org/m model_provider=l/o/p node_type={} operation_type={}"
COST = "currency={} estimated={} model_name=org/m model_provider=l/o/p operation_type={}"
NO_MODEL = "model_name= model_provider="

CASES: dict[str, tuple[TraceEvent, list[str]]] = {
    "workflow": (
        event(
            K.WORKFLOW_RUN,
            status="succeeded",
            invoke_from="api",
            total_tokens=0,
            input_tokens=4,
            output_tokens=3,
        ),
        [
            "dify.requests.total invoke_from=api status=succeeded type=workflow 1",
            "dify.workflow.duration status=succeeded 15000",
            f"dify.tokens.total {NO_MODEL} node_type= operation_type=workflow 0",
            f"dify.tokens.input {NO_MODEL} node_type= operation_type=workflow 4",
            f"dify.tokens.output {NO_MODEL} node_type= operation_type=workflow 3",
        ],
    ),
    "workflow that failed, with a model that is not its own, and a price of its nodes": (
        event(K.WORKFLOW_RUN, status="failed", total_price="1.5", **MODEL),
        [
            "dify.requests.total invoke_from= status=failed type=workflow 1",
            "dify.errors.total type=workflow 1",
            "dify.workflow.duration status=failed 15000",
        ],
    ),
    "workflow whose price is its own": (
        event(K.WORKFLOW_RUN, total_price="1.5", usage_repeats=False),
        [
            "dify.requests.total invoke_from= status= type=workflow 1",
            "dify.workflow.duration status= 15000",
            f"tailrace.cost currency=USD estimated=false {NO_MODEL} operation_type=workflow 1500000000000",
        ],
    ),
    "node without a model": (
        event(
            K.NODE_EXECUTION, status="succeeded", node_type="code", total_tokens=0, input_tokens=0, took=-5
        ),
        [
            "dify.requests.total model_provider= node_type=code status=succeeded type=node 1",
            "dify.node.duration model_provider= node_type=code 0",
        ],
    ),
    "node of a model, estimated": (
        event(
            K.NODE_EXECUTION,
            node_type="llm",
            error="no",
            **MODEL,
            input_tokens=5,
            output_tokens=2,
            total_tokens=7,
        ),
        [
            "dify.requests.total model_provider=l/o/p node_type=llm status= type=node 1",
            "dify.errors.total model_provider=l/o/p node_type=llm type=node 1",
            "dify.node.duration model_provider=l/o/p node_type=llm 15000",
            f"dify.tokens.total {TOKENS.format('llm', 'node_execution')} 7",
            f"dify.tokens.input {TOKENS.format('llm', 'node_execution')} 5",
            f"dify.tokens.output {TOKENS.format('llm', 'node_execution')} 2",
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=input 5",
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=output 2",
            f"{INFERENCE}input_tokens {OF}=unknown 5",
            f"{INFERENCE}output_tokens {OF}=unknown 2",
            f"gen_ai.client.operation.duration error.type=_OTHER {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'true', 'node_execution')} 5000000",
        ],
    ),
    "iteration with the tokens and the price of its nodes": (
        event(K.NODE_EXECUTION, node_type="iteration", total_tokens=7, total_price="1"),
        [
            "dify.requests.total model_provider= node_type=iteration status= type=node 1",
            "dify.node.duration model_provider= node_type=iteration 15000",
            f"dify.tokens.total {NO_MODEL} node_type=iteration operation_type=node_execution 7",
        ],
    ),
    "tool node": (
        event(K.NODE_EXECUTION, node_type="tool", plugin_name="p"),
        [
            "dify.requests.total model_provider= node_type=tool status= type=node 1",
            "dify.node.duration model_provider= node_type=tool plugin_name=p 15000",
        ],
    ),
    "knowledge node without a plugin; no retrievals of its own": (
        event(K.NODE_EXECUTION, node_type="knowledge-retrieval", dataset_ids=["d"]),
        [
            "dify.requests.total model_provider= node_type=knowledge-retrieval status= type=node 1",
            "dify.node.duration model_provider= node_type=knowledge-retrieval plugin_name= 15000",
        ],
    ),
    "draft node, priced in another currency": (
        event(
            K.DRAFT_NODE_EXECUTION,
            status="failed",
            node_type="llm",
            **MODEL,
            total_tokens=3,
            input_tokens=-3,
            total_price="0.0000000000015",
            currency="RMB",
        ),
        [
            "dify.requests.total model_provider=l/o/p node_type=llm status=failed type=draft_node 1",
            "dify.errors.total model_provider=l/o/p node_type=llm type=draft_node 1",
            "dify.node.duration model_provider=l/o/p node_type=llm 15000",
            f"dify.tokens.total {TOKENS.format('llm', 'node_execution')} 3",
            f"gen_ai.client.operation.duration error.type=_OTHER {CALL} 15000",
            f"tailrace.cost {COST.format('RMB', 'false', 'node_execution')} 2",
        ],
    ),
    "message that is a call": (
        event(
            K.MESSAGE,
            status="succeeded",
            invoke_from="webapp",
            **MODEL,
            time_to_first_token=0,
            total_tokens=-1,
            output_tokens=9,
            total_price="0",
        ),
        [
            f"dify.requests.total invoke_from=webapp {PARTS} status=succeeded type=message 1",
            f"dify.message.duration {PARTS} 15000",
            f"dify.message.time_to_first_token {PARTS} 0",
            f"dify.tokens.output {TOKENS.format('', 'message')} 9",
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=output 9",
            f"{INFERENCE}output_tokens {OF}=unknown 9",
            f"gen_ai.client.operation.duration {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'false', 'message')} 0",
        ],
    ),
    "message of a workflow: no call, no estimate": (
        event(
            K.MESSAGE,
            workflow_run_id="r",
            error="no",
            **MODEL,
            time_to_first_token=-1,
            total_tokens=8,
            input_tokens=8,
            total_price="1",
        ),
        [
            f"dify.requests.total invoke_from= {PARTS} status= type=message 1",
            f"dify.errors.total {PARTS} type=message 1",
            f"dify.message.duration {PARTS} 15000",
            f"dify.tokens.total {TOKENS.format('', 'message')} 8",
            f"dify.tokens.input {TOKENS.format('', 'message')} 8",
        ],
    ),
    "tool": (
        event(K.TOOL, tool_name="search", status="failed"),
        [
            "dify.requests.total tool_name=search type=tool 1",
            "dify.errors.total tool_name=search type=tool 1",
            "dify.tool.duration tool_name=search 15000",
        ],
    ),
    "moderation": (event(K.MODERATION, error="no"), ["dify.requests.total type=moderation 1"]),
    "suggested_question": (
        event(K.SUGGESTED_QUESTION, total_tokens=5),
        ["dify.requests.total type=suggested_question 1"],
    ),
    "dataset_retrieval": (
        event(K.DATASET_RETRIEVAL, dataset_ids=["d", "e", "d"], **MODEL),
        [
            "dify.requests.total type=dataset_retrieval 1",
            "dify.dataset.retrievals.total dataset_id=d 1",
            "dify.dataset.retrievals.total dataset_id=e 1",
        ],
    ),
    "generate_name": (event(K.GENERATE_NAME), ["dify.requests.total type=generate_name 1"]),
    "prompt_generation": (
        event(
            K.PROMPT_GENERATION,
            operation_type="rule",
            status="failed",
            **MODEL,
            total_tokens=0,
            input_tokens=2,
        ),
        [
            f"dify.requests.total {PARTS} operation_type=rule status=failed type=prompt_generation 1",
            f"dify.errors.total {PARTS} operation_type=rule type=prompt_generation 1",
            f"dify.prompt_generation.duration {PARTS} operation_type=rule 15000",
            f"dify.tokens.total {TOKENS.format('', 'rule')} 0",
            f"dify.tokens.input {TOKENS.format('', 'rule')} 2",
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=input 2",
            f"{INFERENCE}input_tokens {OF}=unknown 2",
            f"gen_ai.client.operation.duration error.type=_OTHER {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'true', 'rule')} 2000000",
        ],
    ),
    "prompt_generation without a model": (
        event(K.PROMPT_GENERATION),
        [
            f"dify.requests.total {NO_MODEL} operation_type= status= type=prompt_generation 1",
            f"dify.prompt_generation.duration {NO_MODEL} operation_type= 15000",
        ],
    ),
    "llm span": (
        event(K.SPAN, span_kind="llm", **MODEL, input_tokens=1, total_tokens=1, total_price="-1"),
        [
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=input 1",
            f"{INFERENCE}input_tokens {OF}=unknown 1",
            f"gen_ai.client.operation.duration {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'true', 'span')} 1000000",
        ],
    ),
    "llm span with a price of 0": (
        event(K.SPAN, span_kind="llm", **MODEL, input_tokens=1, total_price="0.0", currency="EUR"),
        [
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=input 1",
            f"{INFERENCE}input_tokens {OF}=unknown 1",
            f"gen_ai.client.operation.duration {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'true', 'span')} 1000000",
        ],
    ),
    "llm span of a model without a known price": (
        event(K.SPAN, span_kind="llm", model_name="x/y", input_tokens=1, total_price="0", currency="eur"),
        [
            (
                "gen_ai.client.token.usage gen_ai.operation.name=chat gen_ai.provider.name= "
                "gen_ai.request.model=y gen_ai.token.type=input 1"
            ),
            (
                f"{INFERENCE}input_tokens gen_ai.operation.name=chat gen_ai.provider.name= "
                "gen_ai.request.model=y gen_ai.token.modality=unknown 1"
            ),
            (
                "gen_ai.client.operation.duration gen_ai.operation.name=chat gen_ai.provider.name= "
                "gen_ai.request.model=y 15000"
            ),
            "tailrace.cost currency=EUR estimated=false model_name=x/y model_provider= operation_type=span 0",
        ],
    ),
    "llm span with every class of tokens": (
        event(
            K.SPAN,
            span_kind="llm",
            **MODEL,
            input_tokens=100,
            output_tokens=50,
            total_price="1",
            token_classes=TokenClasses(
                cache_read=40,
                cache_write=30,
                cache_write_1h=10,
                reasoning=20,
                input_audio=15,
                input_image=5,
                cache_read_audio=9,
                output_audio=7,
            ),
        ),
        [
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=input 100",
            f"gen_ai.client.token.usage {CALL} gen_ai.token.type=output 50",
            f"{INFERENCE}input_tokens {OF}=text 80",
            f"{INFERENCE}input_tokens {OF}=audio 15",
            f"{INFERENCE}input_tokens {OF}=image 5",
            f"{INFERENCE}output_tokens {OF}=audio 7",
            f"{INFERENCE}output_tokens {OF}=unknown 43",
            f"{INFERENCE}cache_read.input_tokens {OF}=audio 9",
            f"{INFERENCE}cache_read.input_tokens {OF}=unknown 31",
            f"{INFERENCE}cache_write.input_tokens {OF}=unknown 30",
            f"{INFERENCE}reasoning.output_tokens {OF}=unknown 20",
            f"gen_ai.client.operation.duration {CALL} 15000",
            f"tailrace.cost {COST.format('USD', 'false', 'span')} 1000000000000",
        ],
    ),
    "llm span whose usage is that of spans inside": (
        event(K.SPAN, span_kind="llm", **MODEL, input_tokens=1, total_price="1", usage_repeats=True),
        [],
    ),
    "embedding span of a model that nobody named": (
        event(K.SPAN, span_kind="embedding"),
        [
            (
                "gen_ai.client.operation.duration gen_ai.operation.name=embeddings gen_ai.provider.name= "
                "gen_ai.request.model= 15000"
            )
        ],
    ),
    "other span with a price": (
        event(K.SPAN, span_kind="tool", **MODEL, input_tokens=1, total_price="2", currency="EUR"),
        [f"tailrace.cost {COST.format('EUR', 'false', 'span')} 2000000000000"],
    ),
    "chain with the price of what is inside": (
        event(K.SPAN, span_kind="chain", **MODEL, input_tokens=1, total_price="2", currency="EUR"),
        [],
    ),
    "agent whose usage is its own": (
        event(K.SPAN, span_kind="agent", **MODEL, input_tokens=3, usage_repeats=False),
        [f"tailrace.cost {COST.format('USD', 'true', 'span')} 3000000"],
    ),
    "other span": (event(K.SPAN, **MODEL, input_tokens=1), []),
    "feedback": (event(K.FEEDBACK, rating="like"), ["dify.feedback.total rating=like 1"]),
    "feedback withdrawn": (event(K.FEEDBACK), ["dify.feedback.total rating= 1"]),
    "evaluation with a number and a label": (
        event(
            K.EVALUATION,
            name="correctness",
            trace_id="T",
            parent_id="p",
            evaluation={"number": 0.5, "label": "good", "source": "model"},
            total_tokens=9,
            **MODEL,
            input_tokens=9,
        ),
        [
            (
                "tailrace.evaluations evaluation_label=good evaluation_name=correctness "
                "evaluation_source=model evaluation_target=operation 1"
            )
        ],
    ),
    "evaluation of a session with a flag": (
        event(
            K.EVALUATION,
            name="solved",
            conversation_id="c",
            evaluation={"flag": False},
            total_price="1",
        ),
        [
            (
                "tailrace.evaluations evaluation_label=false evaluation_name=solved evaluation_source= "
                "evaluation_target=session 1"
            )
        ],
    ),
    "evaluation of a trace with a number alone": (
        event(K.EVALUATION, name="n", message_id="m", evaluation={"number": 1}, status="failed"),
        [
            (
                "tailrace.evaluations evaluation_label= evaluation_name=n evaluation_source= "
                "evaluation_target=trace 1"
            )
        ],
    ),
    "app_created": (event(K.APP_CREATED, mode="chat"), ["dify.app.created.total mode=chat 1"]),
    "app_updated": (event(K.APP_UPDATED, mode="chat"), ["dify.app.updated.total 1"]),
    "app_deleted": (event(K.APP_DELETED), ["dify.app.deleted.total 1"]),
    "rehydration_failed": (event(K.REHYDRATION_FAILED, error="no"), []),
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_event_counts(name: str) -> None:
    e, expected = CASES[name]
    assert seen(e) == sorted(expected)


def test_the_cases_have_every_metric() -> None:
    lines = [line for _, expected in CASES.values() for line in expected]
    assert {line.split()[0] for line in lines} == set(SHAPES)


def test_a_label_is_cut_at_a_character() -> None:
    (label,) = [
        v
        for o in observations(event(K.FEEDBACK, rating="x" + "é" * 200), estimate, normalise)
        for k, v in o.labels
        if k == "rating"
    ]
    assert label == "x" + "é" * 127


# -- metrics: what is counted together
def of(*records: Logged, horizon_hours: int = 192) -> Any:
    return metrics(records, estimate=estimate, normalise=normalise, horizon_hours=horizon_hours)


SERIES = frozenset({"tenant_id": "t", "app_id": "a", "tool_name": "s"}.items())
DURATION = "dify.tool.duration"


def tool(n: int, *, at: int = 0, took: int = 0, **fields: Any) -> TraceEvent:
    return event(K.TOOL, source_id=f"tool-{n}", tool_name="s", at=at, took=took, **fields)


def test_buckets_are_inclusive_and_the_last_is_for_what_is_above() -> None:
    times = [0, 10_000, 10_001, 163_840_000, 300_000_000, 300_000_001]
    found = of(*log(*(tool(i, took=took) for i, took in enumerate(times))))
    bounds = (
        10_000,
        20_000,
        40_000,
        80_000,
        160_000,
        320_000,
        640_000,
        1_280_000,
        2_560_000,
        5_120_000,
        10_240_000,
        20_480_000,
        40_960_000,
        81_920_000,
        163_840_000,
        300_000_000,
    )
    buckets = (2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    row = Counted(6, 763_860_002, 0, 300_000_001, bounds, buckets, "s")
    assert found.rows[0, DURATION, SERIES, NOW // ROW_PERIOD_US] == row
    assert found.totals[0, DURATION, SERIES] == msgspec.structs.replace(row, minimum=None, maximum=None)


def test_the_bounds_of_calls() -> None:
    found = of(*log(event(K.SPAN, span_kind="llm", input_tokens=5, took=100_000_000)))
    (usage,) = [c for (_, metric, *_), c in found.rows.items() if metric == "gen_ai.client.token.usage"]
    (took,) = [c for (_, metric, *_), c in found.rows.items() if metric == "gen_ai.client.operation.duration"]
    assert (usage.bounds[0], usage.bounds[-1], usage.buckets) == (1, 67_108_864, (0, 0, 1, *[0] * 12))
    assert (took.bounds[-1], took.buckets) == (81_920_000, (*[0] * 14, 1))


def test_partitions_minutes_and_series_are_counted_apart() -> None:
    a, b, c = tool(1), tool(2, at=ROW_PERIOD_US - 1), tool(3, at=ROW_PERIOD_US)
    records = [*log(a, b, c), Logged(1, 0, MS, tool(4))]
    rows = of(*records).rows
    requests = frozenset([*SERIES, ("type", "tool")])
    minute = NOW // ROW_PERIOD_US
    assert {k: v.count for k, v in rows.items() if k[1] == "dify.requests.total"} == {
        (0, "dify.requests.total", requests, minute): 2,
        (0, "dify.requests.total", requests, minute + 1): 1,
        (1, "dify.requests.total", requests, minute): 1,
    }


def test_corrections_duplicates_and_links_change_no_metric() -> None:
    link = event(K.LINK, root_trace_id="r")
    first = tool(1)
    again = [first, tool(1, revision=1), link, tool(1, revision=1), first]
    found = of(*log(first, *again))
    assert found.totals == of(*log(first)).totals
    assert found.counts == {0: Counts(corrections=1, skewed=0, late=0)}


def test_late_and_skewed_are_in_the_totals_alone() -> None:
    good, bad = tool(1, at=-2 * HOUR, took=1), tool(2, at=-2 * HOUR - 1, took=10)
    fast, faster = tool(3, at=HOUR, took=100), tool(4, at=HOUR + 1, took=1000)
    found = of(*log(good, bad, fast, faster), horizon_hours=2)
    assert found.counts == {0: Counts(corrections=0, skewed=1, late=1)}
    assert {k[3]: v.sum for k, v in found.rows.items() if k[1] == DURATION} == {
        (NOW - 2 * HOUR) // ROW_PERIOD_US: 1,
        (NOW + HOUR) // ROW_PERIOD_US: 100,
    }
    assert found.totals[0, DURATION, SERIES].sum == 1111


def test_the_clock_is_the_latest_append_time_of_all_records() -> None:
    link = Logged(0, 1, MS + 7_200_000, event(K.LINK, root_trace_id="r"))
    elsewhere = Logged(1, 1, MS, tool(1))
    found = of(link, Logged(0, 2, MS, tool(2)), elsewhere, horizon_hours=1)
    assert {n: c.late for n, c in found.counts.items()} == {0: 1, 1: 0}


# -- summaries
def summed_up(*events: TraceEvent) -> TraceSummary:
    (found,) = summaries(log(*events), root_of=mixed.root_of, estimate=estimate).values()
    return found


def node(n: int, node_type: str = "code", **fields: Any) -> TraceEvent:
    own: dict[str, Any] = {
        "source_id": f"n{n}",
        "workflow_run_id": "run",
        "node_type": node_type,
        "name": f"node {n}",
    }
    return event(K.NODE_EXECUTION, **(own | fields))


def run(source: str = "run", **fields: Any) -> TraceEvent:
    own: dict[str, Any] = {
        "source_id": source,
        "workflow_run_id": source,
        "name": "the run",
        "status": "succeeded",
    }
    return event(K.WORKFLOW_RUN, **(own | fields))


def slow(source_id: str, name: str | None, duration: int) -> SlowOperation:
    return SlowOperation(source_id=source_id, name=name, duration=duration)


def test_a_workflow() -> None:
    s = summed_up(
        node(1, at=-5, took=100, user_id="u"),
        node(2, "llm", at=50, took=400, **MODEL, input_tokens=10, output_tokens=5),
        node(
            3,
            "llm",
            at=60,
            took=400,
            input_tokens=1,
            output_tokens=1,
            total_tokens=3,
            total_price="0.10",
            currency="RMB",
        ),
        node(4, "tool", took=20, app_id="b", app_name="App", user_id="other"),
        *(node(n, took=n) for n in (5, 6, 7)),
        run(at=0, took=450),
    )
    assert s == TraceSummary(
        trace_id="run",
        partition=0,
        part=10,
        revision=8,
        complete=True,
        truncated=False,
        run_trace_id=bytes(16),
        tenant_id="t",
        app_id="a",
        user_id="u",
        session_id=None,
        conversation_id=None,
        name="the run",
        status="succeeded",
        started_at=NOW - 5,
        ended_at=NOW + 460,
        duration=450,
        counts={"node_execution": 7, "workflow_run": 1},
        errors=0,
        input_tokens=11,
        output_tokens=6,
        total_tokens=18,
        cost={"USD": "0.00001", "RMB": "0.1"},
        cost_estimated=True,
        slowest=[
            slow("n2", "node 2", 400),
            slow("n3", "node 3", 400),
            slow("n1", "node 1", 100),
            slow("n4", "node 4", 20),
            slow("n7", "node 7", 7),
        ],
        slowest_path=[slow("run", "the run", 450), slow("n2", "node 2", 400)],
    )


def test_a_chatflow_turn() -> None:
    of_turn: dict[str, Any] = {"message_id": "m", "conversation_id": "c"}
    s = summed_up(
        node(1, "llm", took=30, input_tokens=10, total_price="1", **of_turn),
        event(K.TOOL, source_id="tool", name="search", took=35, workflow_run_id="run", **of_turn),
        run(took=40, total_tokens=10, session_id="s", **of_turn),
        event(K.FEEDBACK, source_id="f", took=0, **of_turn),
        event(
            K.MESSAGE,
            source_id="m",
            took=50,
            input_tokens=7,
            output_tokens=2,
            workflow_run_id="run",
            app_name="A",
            **of_turn,
        ),
    )
    assert (s.trace_id, s.complete, s.name, s.status, s.revision) == ("m", True, "A", None, 5)
    assert (s.session_id, s.conversation_id, s.duration) == ("s", "c", 50)
    assert s.counts == {"node_execution": 1, "tool": 1, "workflow_run": 1, "feedback": 1, "message": 1}
    assert (s.input_tokens, s.output_tokens, s.total_tokens) == (7, 2, 9)
    assert (s.cost, s.cost_estimated) == ({"USD": "1"}, False)
    assert s.slowest == [slow("tool", "search", 35), slow("n1", "node 1", 30), slow("f", None, 0)]
    assert s.slowest_path == [slow("m", None, 50), slow("run", "the run", 40), slow("n1", "node 1", 30)]


def test_an_evaluation_is_no_operation_of_its_trace() -> None:
    about: dict[str, Any] = {"name": "correctness", "workflow_run_id": "run", "evaluation": {"flag": True}}
    judged = event(K.EVALUATION, at=90 * SECOND, took=SECOND, error="slow", parent_id="n1", **about)
    assert summed_up(node(1), run(took=50), judged) == summed_up(node(1), run(took=50))


def test_the_roots_own_tokens_and_price_count() -> None:
    s = summed_up(
        node(1, input_tokens=10, output_tokens=5, total_price="1", currency="RMB"),
        run(total_tokens=20, total_price="0.3"),
    )
    assert (s.input_tokens, s.output_tokens, s.total_tokens) == (0, 0, 20)
    assert s.cost == {"USD": "0.3"}


def test_what_repeats_others_does_not_count_whatever_is_below_it() -> None:
    s = summed_up(
        node(1, "iteration", took=90, total_tokens=100, total_price="5"),
        node(2, "llm", took=10, parent_id="n1", input_tokens=30, total_price="0"),
        node(3, "llm", took=20, parent_id="n1", input_tokens=40, total_tokens=41),
        event(
            K.SPAN, source_id="s", took=5, parent_id="n3", workflow_run_id="run", input_tokens=50, name="span"
        ),
        node(4, "loop", took=95, total_tokens=7, total_price="0.25", usage_repeats=False),
        node(6, "llm", took=1, total_tokens=9, usage_repeats=True),
        node(5, parent_id="n4", took=94),
        run(total_tokens=0, took=200),
    )
    assert (s.input_tokens, s.output_tokens, s.total_tokens) == (30 + 40 + 50, 0, 30 + 41 + 50 + 7)
    assert s.cost == {"USD": "0.25"}
    assert [o.source_id for o in s.slowest] == ["n5", "n2", "s", "n6"]
    assert [o.source_id for o in s.slowest_path] == ["run", "n4", "n5"]


def test_a_correction_replaces_and_is_counted_in_the_revision() -> None:
    first = node(1, status="failed", error="no", input_tokens=1, took=1)
    second = node(1, status="succeeded", input_tokens=2, took=2, revision=2)
    between = node(1, status="failed", input_tokens=3, took=3, revision=1)
    s = summed_up(second, first, between, run(), first)
    assert (s.revision, s.errors, s.input_tokens) == (4, 0, 2)
    assert s.counts == {"node_execution": 1, "workflow_run": 1}
    assert s.slowest == [slow("n1", "node 1", 2)]


def test_of_equal_revisions_the_first_counts() -> None:
    s = summed_up(node(1, input_tokens=1), node(1, input_tokens=2, event_id="another"), run())
    assert (s.revision, s.input_tokens) == (3, 1)


def test_errors_and_which_was_first() -> None:
    s = summed_up(
        node(1, took=30, error="late"),
        node(3, took=20, error="é" * 200),
        node(2, took=20, error="x" + "é" * 200, status="exception"),
        run(took=50, status="failed"),
    )
    assert (s.errors, s.first_error_source_id, s.first_error) == (4, "n2", "x" + "é" * 149)
    silent = summed_up(node(1, took=1, status="failed"), run(took=9, error="said"))
    assert (silent.errors, silent.first_error_source_id, silent.first_error) == (2, "n1", None)


def test_a_nested_run_is_in_its_roots_trace() -> None:
    roots: dict[str, Any] = {"root_trace_id": "run", "root_run_id": "run", "app_name": "Inner"}
    nested = {
        **roots,
        "parent_run_id": "run",
        "parent_node_execution_id": "n1",
        "app_id": "inner",
        "user_id": "u",
    }
    s = summed_up(
        event(
            K.NODE_EXECUTION, source_id="i1", workflow_run_id="inner-run", input_tokens=4, took=60, **nested
        ),
        run("inner-run", total_tokens=4, took=70, **nested),
        node(1, "tool", took=80),
        run(took=100, name=None),
    )
    assert (s.trace_id, s.app_id, s.user_id, s.name, s.complete) == ("run", "a", "u", None, True)
    assert (s.input_tokens, s.total_tokens) == (4, 4)
    assert [o.source_id for o in s.slowest_path] == ["run", "n1", "inner-run", "i1"]
    assert [o.source_id for o in s.slowest] == ["i1"]
    with_root_app = summed_up(run("inner-run", **nested, root_app_id="outer"), run())
    assert with_root_app.app_id == "outer"


def test_without_a_root_it_is_not_complete() -> None:
    s = summed_up(node(1, at=10, took=20, app_name="App"), node(2, at=-10, took=-90))
    assert (s.complete, s.name, s.status) == (False, "App", None)
    assert (s.started_at, s.ended_at, s.duration) == (NOW - 10, NOW + 30, 40)
    assert [o.source_id for o in s.slowest] == ["n1", "n2"]
    assert s.slowest_path == []


def test_the_first_span_without_a_parent_is_the_root_of_spans() -> None:
    def span(source: str, at: int, **fields: Any) -> TraceEvent:
        return event(K.SPAN, source_id=source, trace_id="T", at=at, name=source, **fields)

    s = summed_up(span("c", 0, parent_id="b"), span("d", 5), span("b", 5, span_kind=SpanKind.AGENT))
    assert (s.complete, s.name) == (True, "b")
    named = summed_up(span("b", 0), span("T", 9))
    assert named.name == "T"


def test_native_ids_connect_spans() -> None:
    native: dict[str, Any] = {"trace_id": "T", "otel_trace_id": b"t" * 16}
    s = summed_up(
        event(K.SPAN, source_id="a", otel_span_id=b"a" * 8, otel_parent_span_id=b"b" * 8, **native),
        event(K.SPAN, source_id="b", otel_span_id=b"b" * 8, **native),
    )
    assert [o.source_id for o in s.slowest_path] == ["b", "a"]


def test_a_circle_of_parents_ends() -> None:
    s = summed_up(node(1, parent_id="n2", input_tokens=1), node(2, parent_id="n1", input_tokens=2), run())
    assert (s.total_tokens, s.slowest) == (3, [])
    alone = summed_up(node(1, parent_id="n2", input_tokens=1), node(2, parent_id="n1"), run())
    assert alone.total_tokens == 1


def test_parts_are_named_by_their_first_applied_event_and_traces_by_partition() -> None:
    link = event(K.LINK, source_id="run", root_trace_id="r")
    app = event(K.APP_CREATED)
    records = [*log(link, app, node(1), run()), Logged(1, 4, MS, node(2))]
    found = summaries(
        records, root_of=mixed.root_of, estimate=estimate, run_trace_id=lambda trace, _: otel_trace_id(trace)
    )
    assert set(found) == {("run", 0, 12), ("run", 1, 4)}
    assert {s.run_trace_id for s in found.values()} == {otel_trace_id("run")}


# -- what is kept
def recounted(records: list[Logged]) -> Recount:
    return recount(records, root_of=mixed.root_of, estimate=estimate, normalise=normalise, horizon_hours=48)


Topics = tuple[list[Record], list[Record], list[Record], list[Record]]


def written(r: Recount) -> Topics:
    """The topics as a correct processor would leave them."""
    rows = [
        Record(
            p,
            f"{p}/{metric}/{hash(labels):x}/{minute}".encode(),
            codec.encode(
                MetricRow(
                    partition=p,
                    metric=metric,
                    labels=dict(labels),
                    minute=minute * ROW_PERIOD_US,
                    source_offset=1,
                    **msgspec.structs.asdict(c),
                )
            ),
        )
        for (p, metric, labels, minute), c in r.rows.items()
    ]
    totals = []
    for (p, metric, labels), c in r.totals.items():
        values = msgspec.structs.asdict(c)
        del values["minimum"], values["maximum"]
        total = MetricTotal(
            partition=p,
            metric=metric,
            labels=dict(labels),
            started_at=1,
            updated_at=1,
            source_offset=1,
            **values,
        )
        totals.append(Record(p, f"{p}/{metric}/{hash(labels):x}".encode(), codec.encode(total)))
    parts = [
        Record(p, f"{trace}/{p}/{part}".encode(), codec.encode(s))
        for (trace, p, part), s in r.summaries.items()
    ]
    zeros = dict.fromkeys(PartitionPosition.__struct_fields__, 0)
    state = []
    for p, counts in r.counts.items():
        fields: dict[str, Any] = zeros | {"topic_id": "x", "app_id": "x"} | msgspec.structs.asdict(counts)
        state.append(Record(p, b"p", codec.encode_versioned(PartitionPosition(**fields))))
    return rows, totals, parts, state


def test_equal_topics_have_no_difference_and_each_difference_is_listed() -> None:
    r = recounted(mixed.as_log(mixed.mixed(3, 600, NOW), 3, NOW))
    topics = written(r)
    kept = kept_of(*topics)
    assert compare(r, kept) == []

    rows, totals, parts, state = topics
    key = next(iter(r.rows))
    more = {**r.rows, key: msgspec.structs.replace(r.rows[key], sum=-1)}
    (line,) = compare(r._replace(rows=more), kept)
    assert line.startswith("row ")
    assert "must be -1" in line
    assert key[1] in line

    (gone,) = compare(r, kept_of(rows, [*totals, totals[0]._replace(value=None)], parts, state))
    assert "missing" in gone
    moved = [rows[0]._replace(partition=rows[0].partition + 1), *rows[1:]]
    assert "is in partition" in compare(r, kept_of(moved, totals, parts, state))[0]
    begin, metric, _, minute = rows[0].key.split(b"/")
    twice = [*rows, rows[0]._replace(key=b"/".join((begin, metric, b"another", minute)))]
    assert "another key" in compare(r, kept_of(twice, totals, parts, state))[0]
    assert len(compare(r, kept_of([], [], [], state))) == 3 * (MOST + 1)

    this, s = next(iter(r.summaries.items()))
    for name, value in {
        "errors": 99,
        "cost": {"XXX": "1"},
        "slowest": [],
        "status": "?",
        "counts": {},
    }.items():
        changed = {**r.summaries, this: msgspec.structs.replace(s, **{name: value})}
        found = compare(r, kept._replace(summaries=changed))
        assert found == [] if getattr(s, name) == value else [name in line for line in found] == [True]
    assert compare(r._replace(counts={0: Counts(1, 2, 3)}), kept)


def test_a_summary_without_its_root_may_be_missing_but_not_wrong() -> None:
    r = recounted(log(node(1)))
    topics = written(r)
    assert compare(r, kept_of(topics[0], topics[1], [], [])) == []
    other = recounted(log(node(1, error="no")))
    assert compare(r, kept_of(topics[0], topics[1], written(other)[2], []))


@pytest.mark.kafka
def test_kept_records_are_read_from_a_broker(topics_settings: Callable[..., Settings]) -> None:
    settings = topics_settings(partitions=3)
    bootstrap, names = settings.kafka.bootstrap_servers, TopicNames.of(settings.topics)
    events = list(mixed.mixed(5, 300, NOW))
    with Publisher(settings=settings) as publisher:
        for e in events:
            assert publisher.publish(e) == e.event_id
        assert not publisher.flush(60).undelivered
    records = read_log(bootstrap, names.events)
    placed = {(r.partition, r.event.event_id) for r in mixed.as_log(events, 3, NOW)}
    assert len(records) == len(events)
    assert {(r.partition, r.event.event_id) for r in records} == placed
    assert all(abs(r.appended_at_ms / 1000 - time.time()) < 300 for r in records)

    r = recounted(records)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": settings.topics.prefix})
    producer.init_transactions(30)
    of_topic = dict(zip((names.metrics, names.totals, names.summaries, names.state), written(r), strict=True))
    for commit in (True, False):  # all of it, and then tombstones that are aborted
        producer.begin_transaction()
        for topic, kept in of_topic.items():
            for one in kept:
                producer.produce(topic, one.value if commit else None, one.key, one.partition)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    assert compare(r, read_kept(bootstrap, names)) == []


# -- the mixed load
def test_the_mixed_load_is_reproducible_whole_and_mixed() -> None:
    events = list(mixed.mixed(7, 4000, NOW))
    assert events == list(mixed.mixed(7, 4000, NOW))
    assert events != list(mixed.mixed(8, 4000, NOW))
    assert [len(list(mixed.mixed(1, n, NOW))) for n in (0, 1, 2, 50)] == [0, 1, 2, 50]

    ids = Counter(e.event_id for e in events)
    assert max(ids.values()) >= 2
    assert {e.revision for e in events} == {0, 1, 2}
    runs = {e.source_id: e.parent_run_id for e in events if e.kind == K.WORKFLOW_RUN}

    def depth(run_id: str | None) -> int:
        return 0 if run_id is None else 1 + depth(runs[run_id])

    assert {depth(parent) for parent in runs.values()} == {0, 1, 2, 3}
    started = [e.started_at - NOW for e in events]
    assert min(started) < -2 * 86_400 * SECOND
    assert max(started) > 300 * 86_400 * SECOND
    assert {e.currency for e in events if e.total_price} == {"USD", "RMB", None}
    assert any(e.kind == K.NODE_EXECUTION and e.input_tokens and e.total_price is None for e in events)

    r = recounted(mixed.as_log(events, 3, NOW))
    assert all(s.complete for s in r.summaries.values())
    assert all(c.corrections and c.skewed and c.late for c in r.counts.values())
    assert {metric for _, metric, _ in r.totals} == set(SHAPES)
