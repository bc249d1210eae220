"""Events whose clock is behind or ahead change the rows of their own minute and nothing else."""

from __future__ import annotations

from typing import Final

import msgspec

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.correlate import CLOCK_SKEW
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.state import State
from tailrace import codec
from tailrace.identity import kafka_key
from tailrace.metrics.row_period import ROW_PERIOD_MS, ROW_PERIOD_US
from tailrace.records import TraceContext, TraceEvent
from tests.harness import kept
from tests.harness.mixed import mixed, root_of
from tests.harness.recount import Row, Series, recount
from tests.harness.recount_events import HOUR, Logged
from tests.streams.events import NOW, Source, event
from tests.streams.processing.test_recount import estimate, normalise

DAY: Final = 86_400_000_000
HORIZON_HOURS: Final = 96
BEFORE: Final = 400
"""Events before the one that is late."""


class Counting:
    """One partition, and what its topics hold after each event."""

    def __init__(self, horizon_hours: int = HORIZON_HOURS) -> None:
        limits = MetricLimits(horizon_ms=horizon_hours * 3_600_000, max_groups=10_000, max_rows=1_000_000)
        self.horizon_hours = horizon_hours
        self.state = State(StateLimits(900_000_000, 100_000, 3_600_000, metrics=limits))
        self.state.next_offset = 0
        self.log: list[Logged] = []
        self.written: dict[str, list[kept.Record]] = {"rows": [], "totals": [], "summaries": [], "state": []}
        self._processor = EventProcessor("trace.events", 0, 1 << 22, 1 << 20)

    def apply(self, *events: TraceEvent, appended_at_ms: int) -> list[TraceContext]:
        """Applies the events in one unit with a flush. Returns their contexts."""
        records = []
        for e in events:
            self.log.append(Logged(0, len(self.log), appended_at_ms, e))
            records.append(
                Source(len(self.log) - 1, appended_at_ms, (kafka_key(e) or "").encode(), codec.encode(e))
            )
        unit = TransactionBatch()
        self._processor.apply(self.state, records, unit)
        assert not unit.dead_letters
        closed = self.state.close(flush=True)
        for topic, found in self.written.items():
            found += [kept.Record(0, k, v) for k, v in getattr(closed, topic)]
        return [codec.decode(context, TraceContext) for _, _, context in unit.outputs]

    def kept(self) -> kept.Kept:
        w = self.written
        return kept.kept_of(w["rows"], w["totals"], w["summaries"], w["state"])

    def check(self) -> None:
        """Everything equals a recount."""
        expected = recount(
            self.log,
            root_of=root_of,
            estimate=estimate,
            normalise=normalise,
            horizon_hours=self.horizon_hours,
        )
        assert kept.compare(expected, self.kept()) == []


def busy(horizon_hours: int = HORIZON_HOURS) -> Counting:
    """A partition that has counted a load of every kind of event."""
    counting = Counting(horizon_hours)
    load = list(mixed(7, BEFORE, NOW))
    for i in range(0, len(load), 100):
        counting.apply(*load[i : i + 100], appended_at_ms=NOW // 1000 + i)
    return counting


def one_like(counting: Counting, started_at: int, name: str = "one") -> TraceEvent:
    """A new node with a tenant, application and model that are counted already, and another start."""
    like = next(
        x.event
        for x in counting.log
        if x.event.model_name and x.event.kind == "node_execution" and not x.event.revision
    )
    fresh = event(
        source_id=name, run=99, started_at=started_at, ended_at=started_at + 5000, total_price="0.25"
    )
    names = ("tenant_id", "app_id", "node_type", "model_provider", "model_name", "currency")
    return msgspec.structs.replace(
        fresh,
        input_tokens=10,
        output_tokens=5,
        total_tokens=15,
        status="succeeded",
        **{n: getattr(like, n) for n in names},
    )


def moved(before: kept.Kept, after: kept.Kept) -> tuple[set[Row], set[Series]]:
    """Rows and totals that are new or changed. None is missing."""
    assert before.rows.keys() <= after.rows.keys()
    assert before.totals.keys() <= after.totals.keys()
    return (
        {key for key, value in after.rows.items() if before.rows.get(key) != value},
        {key for key, value in after.totals.items() if before.totals.get(key) != value},
    )


def written_since(counting: Counting, rows: int) -> set[int]:
    """Minutes of the rows that were written to the topic after the first `rows`."""
    return {int(r.key.rpartition(b"/")[2]) for r in counting.written["rows"][rows:]}


def test_an_event_three_days_late_moves_its_own_minutes_rows_and_no_other() -> None:
    counting = busy()
    before, written = counting.kept(), len(counting.written["rows"])
    started_at = NOW - 3 * DAY
    (context,) = counting.apply(one_like(counting, started_at), appended_at_ms=NOW // 1000 + 2000)
    rows, totals = moved(before, counting.kept())
    assert {minute for *_, minute in rows} == {started_at // ROW_PERIOD_US}
    assert written_since(counting, written) == {started_at // ROW_PERIOD_US}
    assert {key[:3] for key in rows} == totals
    assert {metric for _, metric, _ in totals} == {
        "dify.requests.total",
        "dify.node.duration",
        "dify.tokens.total",
        "dify.tokens.input",
        "dify.tokens.output",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
        "tailrace.cost",
    }
    assert CLOCK_SKEW.decode() not in context.marks
    assert counting.kept().counts[0] == before.counts[0]
    counting.check()


def test_a_second_late_event_of_that_minute_moves_the_same_rows_again() -> None:
    counting = busy()
    first = one_like(counting, NOW - 3 * DAY)
    counting.apply(first, appended_at_ms=NOW // 1000 + 2000)
    between = counting.kept()
    second = one_like(counting, NOW - 3 * DAY, "two")
    counting.apply(second, appended_at_ms=NOW // 1000 + 3000)
    rows, _ = moved(between, counting.kept())
    assert {minute for *_, minute in rows} == {(NOW - 3 * DAY) // ROW_PERIOD_US}
    assert all(counting.kept().rows[key].count == 2 * between.rows[key].count for key in rows)
    counting.check()


def test_an_event_a_year_ahead_is_in_the_totals_and_disturbs_no_row() -> None:
    counting = busy()
    before, written = counting.kept(), len(counting.written["rows"])
    (context,) = counting.apply(one_like(counting, NOW + 365 * DAY), appended_at_ms=NOW // 1000 + 2000)
    rows, totals = moved(before, counting.kept())
    assert rows == set()
    assert len(counting.written["rows"]) == written, "no row is written again"
    assert ("tailrace.cost" in {metric for _, metric, _ in totals}, len(totals)) == (True, 11)
    assert CLOCK_SKEW.decode() in context.marks
    assert counting.kept().counts[0] == msgspec.structs.replace(
        before.counts[0], skewed=before.counts[0].skewed + 1
    )
    counting.check()
    after = counting.kept()
    counting.apply(one_like(counting, NOW + ROW_PERIOD_US, "two"), appended_at_ms=NOW // 1000 + 4000)
    rows, _ = moved(after, counting.kept())
    assert {minute for *_, minute in rows} == {NOW // ROW_PERIOD_US + 1}, "the open rows are the same"
    counting.check()


def test_an_event_beyond_the_horizon_is_counted_late_and_in_the_totals() -> None:
    counting = busy(horizon_hours=48)
    before, written = counting.kept(), len(counting.written["rows"])
    (context,) = counting.apply(one_like(counting, NOW - 3 * DAY), appended_at_ms=NOW // 1000 + 2000)
    rows, totals = moved(before, counting.kept())
    assert (rows, len(counting.written["rows"])) == (set(), written)
    assert totals
    assert CLOCK_SKEW.decode() not in context.marks
    assert counting.kept().counts[0] == msgspec.structs.replace(
        before.counts[0], late=before.counts[0].late + 1
    )
    counting.check()


def test_the_horizon_is_a_minute_sharp_and_a_row_that_closed_stays_as_it_was() -> None:
    counting = busy()
    clock_ms = NOW // 1000 + 2000
    oldest = (clock_ms * 1000 - HORIZON_HOURS * HOUR) // ROW_PERIOD_US
    counting.apply(one_like(counting, oldest * ROW_PERIOD_US), appended_at_ms=clock_ms)
    there = counting.kept()
    assert oldest in {minute for *_, minute in there.rows}
    late = one_like(counting, oldest * ROW_PERIOD_US - 1, "two")
    counting.apply(late, appended_at_ms=clock_ms)
    assert counting.kept().rows == there.rows
    assert counting.kept().counts[0].late == there.counts[0].late + 1
    again = one_like(counting, oldest * ROW_PERIOD_US, "three")
    counting.apply(again, appended_at_ms=clock_ms + ROW_PERIOD_MS)  # its minute has closed
    assert counting.kept().rows == there.rows
    assert counting.kept().counts[0].late == there.counts[0].late + 2
    counting.check()
