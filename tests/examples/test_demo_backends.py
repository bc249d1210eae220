"""The demo's five backends: set up and read back, compared, and shown in README."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from connectors.config.instances import instances
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.preview.offline import enriched
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, spec_of
from connectors.sdk.outcomes import Delivered
from connectors.sinks.otlp import Otlp
from connectors.testing.doubles.alibaba import AlibabaDouble
from connectors.testing.doubles.langfuse import LangfuseDouble
from connectors.testing.doubles.opik import OpikDouble
from connectors.testing.doubles.otlp import OtlpReceiver
from connectors.testing.doubles.otlp_request import parse
from connectors.testing.doubles.received import ReceivedSpan
from connectors.testing.doubles.server import Double
from connectors.testing.doubles.weave import WeaveDouble
from examples.demo.__main__ import SALT
from examples.demo.backends import BACKENDS, KEY, command, environment, read
from examples.demo.checks import BALANCED, arrived, problems, summary
from examples.demo.held import Held, Traces, different, dollars, otlp, rows
from examples.demo.stack import NOT_OURS
from examples.demo.trees import Comparison, draw, most_telling
from examples.recorded_runs.publish_runs import events
from tailrace.identity import complete
from tailrace.ledger.report import LedgerReport, SinkAccount, StreamAccount
from tailrace.records import TraceEvent
from tailrace.settings import load
from tests.connectors.vendors import shipped
from tests.docs.markdown import ROOT, blocks

ORIGIN = RecordOrigin("trace.enriched", 0, 0, 0)
NAMES = {name: (backend.title, backend.unit) for name, backend in BACKENDS.items()}


def payloads(sink: Any, of: list[TraceEvent], fields: frozenset[str] | None) -> list[Payload]:
    found = [sink.map(record) for record in enriched(of, fields) if isinstance(record, Enriched)]
    assert len(found) == len(of)
    assert all(isinstance(payload, Payload) for payload in found)
    return found


@pytest.fixture(scope="module")
def published() -> list[TraceEvent]:
    return [complete(event, event.ended_at) for event in events(salt=SALT)]


@pytest.fixture(scope="module")
def telling(published: list[TraceEvent]) -> list[ReceivedSpan]:
    """The spans of the trace that the demo shows."""
    sink = Otlp(Otlp.Settings(endpoint="http://h"))
    found = [payload.body for payload in payloads(sink, published, spec_of(Otlp).fields)]
    batches = [found[start : start + 500] for start in range(0, len(found), 500)]
    spans = [span for batch in batches for span in parse(sink.request(batch), 1, 0)]
    best = most_telling(spans)
    assert best == sorted(most_telling(reversed(spans)), key=best.index)
    return best


class Seen(NamedTuple):
    has: dict[str, Traces]
    operations: int


@pytest.fixture(scope="module")
def seen(
    published: list[TraceEvent], telling: list[ReceivedSpan], tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    """What the doubles have, set up and asked as in the demo, after each sink sent one trace twice."""
    trace = telling[0].trace_id
    of = [event for event in published if (event.workflow_run_id or "").replace("-", "") == trace]
    file = tmp_path_factory.mktemp("otlp") / "spans.jsonl"
    return Seen(asyncio.run(delivered(of, file)), len(of))


async def delivered(of: list[TraceEvent], file: Path) -> dict[str, Traces]:
    doubles: dict[str, Double[Any]] = {
        "langfuse": LangfuseDouble(),
        "opik": OpikDouble(),
        "weave": WeaveDouble(),
        "alibaba": AlibabaDouble(license_key=KEY),
        "otlp": OtlpReceiver(file),
    }
    async with AsyncExitStack() as running:
        for double in doubles.values():
            await running.enter_async_context(double)
        ready = {name: double.ready() for name, double in doubles.items()}
        env = environment(ready)
        http = AiohttpTransport()
        for instance in instances(load({}, env=env), BACKENDS, env):
            items = tuple(Item(p, ORIGIN) for p in payloads(instance.sink, of, instance.fields))
            for _ in range(2):
                assert await instance.sink.send(Batch(items), http) == Delivered()
        await http.close()
        return {name: await asyncio.to_thread(read, name, ready[name]) for name in BACKENDS}


def test_every_sink_of_a_vendor_has_a_backend() -> None:
    assert set(BACKENDS) == set(shipped())


@pytest.mark.parametrize("name", BACKENDS)
def test_doubles_take_their_command_lines(name: str, tmp_path: Path) -> None:
    """They are not started here."""
    [module, module_name, *options] = command(name, tmp_path / "spans.jsonl")
    assert module == "-m"
    main = import_module(module_name).main
    given = main.make_context(name, list(options)).params
    assert given["as_json"]
    assert given["port"] == 0
    assert given.get("license_key", KEY) == KEY


def test_no_variable_of_the_user_reaches_a_sink() -> None:
    """A setting from outside could send the demo's events to a real backend."""
    modules = [import_module(f"connectors.sinks.{name}.sink") for name in shipped()]
    variables = {name for module in modules for name in getattr(module, "VARIABLES", {})}
    assert len(variables) > 10
    assert [name for name in sorted(variables) if not name.startswith(NOT_OURS)] == []


def test_five_backends_have_the_same_of_a_trace_that_is_delivered_twice(
    seen: Seen, telling: list[ReceivedSpan]
) -> None:
    trace = telling[0].trace_id
    assert list(seen.has) == list(BACKENDS)
    assert [list(traces) for traces in seen.has.values()] == [[trace]] * len(BACKENDS)
    assert list(different(seen.has)) == []
    first = seen.has["langfuse"][trace]
    assert first.operations == seen.operations == len(telling)
    assert first.tokens > 0
    assert first.cost is not None
    assert first.cost > 0
    assert [name for name, traces in seen.has.items() if traces[trace].cost is None] == ["otlp"]


@pytest.mark.parametrize(
    "change", [{"operations": 18}, {"tokens": 371}, {"cost": Decimal("0.0001235")}, {"cost": Decimal(0)}]
)
@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "otlp"])
def test_a_backend_that_has_something_else_is_named(seen: Seen, name: str, change: dict[str, Any]) -> None:
    [(trace, had)] = seen.has[name].items()
    changed = {**seen.has, name: {trace: msgspec.structs.replace(had, **change)}}
    found = list(different(changed))
    assert found
    assert all(trace in text for text in found)
    assert any(name in text for text in found)


def test_a_trace_that_is_nowhere_else_is_named() -> None:
    two = {"a": {"t": Held(1, 2)}, "b": {"t": Held(1, 2), "u": Held(3, 0)}}
    [found] = different(two)
    assert found == ("trace u: a has 0 operations, 0 tokens, no cost; b has 3 operations, 0 tokens, no cost")


def test_tokens_of_operations_around_others_count_once() -> None:
    def span(span_id: str, parent: str | None, tokens: int | None) -> ReceivedSpan:
        has = {} if tokens is None else {"gen_ai.usage.total_tokens": tokens}
        return ReceivedSpan(
            request=1,
            received_at=0,
            trace_id="t",
            span_id=span_id,
            parent_span_id=parent,
            name=span_id,
            kind="internal",
            start_ns=0,
            end_ns=1,
            attributes=has,
        )

    spans = [span("run", None, 9), span("loop", "run", 9), span("a", "loop", 4), span("b", "loop", 5)]
    assert otlp([*spans, span("end", "run", None), spans[2]]) == {"t": Held(5, 9)}


@pytest.mark.parametrize(
    ("cost", "shown"),
    [("0.0001234", "$0.0001234"), ("1E+2", "$100"), ("0.50", "$0.5"), ("0", "$0"), ("5.98E-5", "$0.0000598")],
)
def test_dollars_are_exact(cost: str, shown: str) -> None:
    assert dollars(Decimal(cost)) == shown


# -- the counts
TRACES: Traces = {"t": Held(3, 5, Decimal("0.1"))}
HAS: Mapping[str, Traces] = {"a": TRACES, "b": TRACES}


def report(*, enriched: int = 3, delivered: int = 3, dead: int = 0, pending: int = 0) -> LedgerReport:
    streams = (StreamAccount(0, enriched + dead, enriched, 0, 0, dead, pending),)
    sinks = tuple(SinkAccount(name, 0, delivered, delivered, 0, 0, 0, pending, 0, True) for name in HAS)
    return LedgerReport(streams, sinks)


def test_what_balances_is_right() -> None:
    assert list(problems(3, report(), HAS)) == []
    assert arrived(report(), 3, HAS)


def test_all_has_arrived_when_every_sink_is_done() -> None:
    only_one = LedgerReport(report().streams, report().sinks[:1])
    for not_yet in (report(pending=1), report(delivered=2), only_one, report(enriched=2)):
        assert not arrived(not_yet, 3, HAS)


@pytest.mark.parametrize(
    ("published", "ledger", "has", "says"),
    [
        (4, report(), HAS, "4 events are published, 3 enriched"),
        (3, report(delivered=2), HAS, "3 events are enriched, 2 delivered to a, which has 3"),
        (3, report(), {**HAS, "b": {"t": Held(2, 5, Decimal("0.1"))}}, "3 delivered to b, which has 2"),
        (3, report(), {**HAS, "b": {"t": Held(3, 6, Decimal("0.1"))}}, "b has 3 operations, 6 tokens"),
        (3, report(dead=1), HAS, "1 records are in the dead letters"),
        (
            3,
            LedgerReport(
                report().streams, (*report().sinks, SinkAccount("c", 0, 1, 0, 0, 0, 0, 0, 0, False))
            ),
            HAS,
            "the ledger does not balance",
        ),
    ],
)
def test_what_does_not_balance_is_said(
    published: int, ledger: LedgerReport, has: Mapping[str, Traces], says: str
) -> None:
    assert [text for text in problems(published, ledger, has) if says in text]


def test_readme_shows_what_the_demo_prints(
    seen: Seen, telling: list[ReceivedSpan], published: list[TraceEvent]
) -> None:
    count, runs = len(published), 445
    names = sorted(BACKENDS)
    ledger = LedgerReport(
        (StreamAccount(0, count, count, 0, 0, 0, 0),),
        tuple(SinkAccount(name, 0, count, count, 0, 0, 0, 0, 0, True) for name in names),
    )
    filler = {str(i): Held(0, 0, Decimal(0)) for i in range(runs - 1)}
    has = {name: traces | filler for name, traces in seen.has.items()}
    has["otlp"] = {trace: msgspec.structs.replace(of, cost=None) for trace, of in has["otlp"].items()}
    printed = [f"  {line}" for line in rows(telling[0].trace_id, seen.has, NAMES)]
    printed += [f"  {line}" for line in draw(telling)]
    printed += summary(count, ledger, has, Comparison(runs, count, (), 0))
    printed.append(BALANCED)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [shown] = [block for block in blocks(readme, "") if BALANCED in block]
    lines = shown.splitlines()
    assert len(lines) > 8
    assert [line for line in lines if line not in printed] == []
