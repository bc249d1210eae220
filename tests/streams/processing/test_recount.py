"""What the pass counts and sums up equals a recount that shares no code, in any order of arrival."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.prices import Prices
from streams.processing.providers import normalised
from streams.processing.state import State
from tailrace.identity import kafka_key
from tailrace.kinds import WITHOUT_TRACE
from tailrace.records import MetricRow, MetricTotal, TraceEvent, TraceSummary
from tests.harness import foreign, kept
from tests.harness.mixed import as_log, mixed, root_of
from tests.harness.recount import Recount, recount
from tests.harness.recount_events import Logged, classes_of
from tests.streams.events import NOW, Source

HOURS = 48
LIMITS = StateLimits(
    idle_ms=900_000_000,
    max_traces=100_000,
    dedupe_ms=3_600_000,
    metrics=MetricLimits(horizon_ms=HOURS * 3_600_000, max_groups=10_000, max_rows=1_000_000),
)
PRICES = Prices()


def encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def estimate(event: TraceEvent) -> int | None:
    return PRICES.estimate(
        encoded(event.model_provider),
        encoded(event.model_name),
        event.input_tokens,
        event.output_tokens,
        event.started_at,
        None if classes_of(event) is None else event.token_classes,
        encoded(event.service_tier),
        encoded(event.response_model),
    )


def normalise(provider: str | None, model: str | None) -> tuple[str | None, str | None]:
    names = [None if n is None else n.decode() for n in normalised(encoded(provider), encoded(model))]
    return names[0], names[1]


def recounted(log: list[Logged]) -> Recount:
    return recount(log, root_of=root_of, estimate=estimate, normalise=normalise, horizon_hours=HOURS)


def processed(log: list[Logged], partitions: int, random: Random) -> kept.Kept:
    """The log after the pass, with units and flushes of random lengths.

    Producers write an empty text for some fields that they do not have. Returns what the topics hold in the
    end.
    """
    topics: dict[str, list[kept.Record]] = {"rows": [], "totals": [], "summaries": [], "state": []}
    empty = Random(len(log))
    for n in sorted({x.partition for x in log}):
        state, processor = State(LIMITS, n), EventProcessor("events", n, 1 << 22, 1 << 20, partitions)
        state.next_offset = 0
        records = [
            Source(
                x.offset,
                x.appended_at_ms,
                (kafka_key(x.event) or "").encode(),
                foreign.encode(foreign.emptied(x.event, lambda: empty.random() < 0.2)),
            )
            for x in log
            if x.partition == n
        ]
        while True:
            size = random.randrange(1, 200)
            unit, part, records = TransactionBatch(), records[:size], records[size:]
            processor.apply(state, part, unit)
            assert not unit.dead_letters
            closed = state.close(flush=not records or random.random() < 0.3)
            for topic, found in topics.items():
                found += [kept.Record(n, k, v) for k, v in getattr(closed, topic)]
            if not records:
                break
    return kept.kept_of(topics["rows"], topics["totals"], topics["summaries"], topics["state"])


def reordered(log: list[Logged], random: Random) -> list[Logged]:
    """The same events in another order of arrival, each with the offset and append time of its new place."""
    events = [x.event for x in log]
    random.shuffle(events)
    return as_log(events, 1 + max(x.partition for x in log), NOW)


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_rows_series_and_summaries_are_those_of_a_recount(
    seed: int, events: int, partitions: int, random: Random
) -> None:
    log = as_log(mixed(seed, events, NOW), partitions, NOW)
    assert kept.compare(recounted(log), processed(log, partitions, random)) == []


@given(st.integers(0, 2**32), st.integers(1, 150), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_any_order_of_arrival_gives_the_same_metrics_and_summaries(
    seed: int, events: int, random: Random
) -> None:
    log = as_log(mixed(seed, events, NOW), 2, NOW)
    other = reordered(log, random)
    found = processed(other, 2, random)
    assert kept.compare(recounted(other), found) == []
    first = recounted(log)
    assert found.rows == first.rows
    assert found.totals == first.totals
    apart = (
        "part",
        "user_id",
        "session_id",
        "conversation_id",
        "app_id",
        "tenant_id",
    )  # of the first event that names one

    def plain(summaries: dict[tuple[str, int, int], TraceSummary]) -> dict[tuple[str, int], object]:
        return {
            (trace, n): {k: v for k, v in msgspec.to_builtins(s).items() if k not in apart}
            for (trace, n, _), s in summaries.items()
        }

    found_there, expected = plain(found.summaries), plain(first.summaries)
    for key, summary in found_there.items():
        for name in ("cost", "run_trace_id"):
            summary.pop(name)  # type: ignore[attr-defined]
            expected[key].pop(name)  # type: ignore[attr-defined]
        assert summary == expected[key]


@given(st.integers(0, 2**32), st.integers(1, 120), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_same_events_of_another_tenant_are_counted_and_summed_up_apart(
    seed: int, events: int, random: Random
) -> None:
    """All ids are alike, event ids included. Events without a tenant belong to the first one."""
    log = as_log(mixed(seed, events, NOW), 2, NOW)
    twins = [
        msgspec.structs.replace(x.event, tenant_id=tenant)
        for x in log
        if x.event.kind not in WITHOUT_TRACE
        for tenant in ("twin", None)
        if random.random() < 0.4
    ]
    random.shuffle(twins)
    both = as_log([*(x.event for x in log), *twins], 2, NOW)
    for found in (both, reordered(both, random)):
        assert kept.compare(recounted(found), processed(found, 2, random)) == []


def test_what_a_reader_decodes_is_what_was_compared() -> None:
    """The comparison is not empty: a load has rows, series and summaries of every metric."""
    log = as_log(mixed(7, 3000, NOW), 3, NOW)
    found = processed(log, 3, Random(1))
    assert kept.compare(recounted(log), found) == []
    names = {metric for _, metric, _ in found.totals}
    assert len(names) == 25, sorted(names)
    assert len(found.rows) > 1000
    assert any(s.cost_estimated for s in found.summaries.values())
    assert MetricRow.__name__ != MetricTotal.__name__
