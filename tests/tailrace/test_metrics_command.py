"""`tailrace metrics`: what it reads, prints, draws and refuses."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from tailrace import codec
from tailrace.commands.metrics import formatting, query, views
from tailrace.commands.metrics.command import metrics
from tailrace.commands.metrics.plot import Line, draw, runs, ticks, times
from tailrace.errors import KafkaUnavailable, MissingPackage, TopicMismatch
from tailrace.metrics.rows import Reading, read
from tailrace.metrics.windows import MINUTE_US
from tailrace.records import MetricRow
from tailrace.settings import Settings, convert
from tailrace.topics import TopicNames

MIDNIGHT = 29_701_440
"""2026-06-22 00:00 UTC, in minutes."""


def row(minute: int = MIDNIGHT, labels: dict[str, str] | None = None, **fields: Any) -> MetricRow:
    given: dict[str, Any] = {
        "partition": 0,
        "metric": "dify.requests.total",
        "unit": "{request}",
        "count": 1,
        "sum": 1,
        "source_offset": 0,
    }
    return MetricRow(minute=minute * MINUTE_US, labels=labels or {}, **{**given, **fields})


def node(minute: int, kind: str, *microseconds: int, **fields: Any) -> MetricRow:
    bounds = (10_000, 100_000, 1_000_000)
    held = [
        sum(low < v <= high for v in microseconds)
        for low, high in zip((-1, *bounds), (*bounds, 10**12), strict=True)
    ]
    return row(
        minute,
        {"node_type": kind, "app_id": "a"},
        metric="dify.node.duration",
        unit="s",
        count=len(microseconds),
        sum=sum(microseconds),
        minimum=min(microseconds),
        maximum=max(microseconds),
        bounds=bounds,
        buckets=held,
        **fields,
    )


# -- text


@pytest.mark.parametrize(("given", "found"), [("1m", 1), ("15m", 15), ("1h", 60), ("2d", 2880)])
def test_durations_are_whole_minutes(given: str, found: int) -> None:
    assert formatting.minutes(given) == found
    assert formatting.span(found) == given


@pytest.mark.parametrize("given", ["", "0m", "30s", "1.5h", "-1h", "h", "1w", "1h30m", "９９９９９９９m"])
def test_other_durations_are_refused_with_an_example(given: str) -> None:
    with pytest.raises(ValueError, match="is not a valid duration; for example 1m, 15m, 1h or 1d"):
        formatting.minutes(given)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("2026-06-22", MIDNIGHT),
        ("2026-06-22T00:05", MIDNIGHT + 5),
        ("2026-06-22 00:05Z", MIDNIGHT + 5),
        ("2026-06-22T02:00:30+02:00", MIDNIGHT + 0.5),
        ("now", MIDNIGHT + 10),
        ("-10m", MIDNIGHT),
        ("-1d", MIDNIGHT + 10 - 1440),
    ],
)
def test_moments(given: str, found: float) -> None:
    assert formatting.moment(given, (MIDNIGHT + 10) * 60) == found


@pytest.mark.parametrize("given", ["yesterday", "", "-1", "-90s", "12:00"])
def test_other_moments_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid (time|duration); for example"):
        formatting.moment(given, 0)


@pytest.mark.parametrize(
    ("value", "unit", "found"),
    [
        (0, "s", "0 µs"),
        (850, "s", "850 µs"),
        (999.7, "s", "1 ms"),
        (12_345, "s", "12.3 ms"),
        (999_600, "s", "1 s"),
        (1_234_000, "s", "1.23 s"),
        (99_960_000, "s", "100 s"),
        (210_000_000, "s", "3.5 min"),
        (7_560_000_000, "s", "2.1 h"),
        (9_000_000_000_000, "s", "2,500 h"),
        (None, "s", "-"),
        (1_234_567, "{token}", "1,234,567"),
        (2.5, "{token}", "2.5"),
        (12_500_000_000_000, "{currency}", "12.50"),
        (1_234_000_000, "{currency}", "0.001234"),
        (5, "{currency}", "0.00"),
        (1_000_000_000_000_000_000, "{currency}", "1,000,000.00"),
    ],
)
def test_values_are_for_people(value: float | None, unit: str, found: str) -> None:
    assert formatting.human(value, unit) == found


def test_money_in_a_column_has_its_points_below_each_other() -> None:
    assert formatting.human(10**12, formatting.MONEY, aligned=True) == "1.000000"


@given(st.integers(-(10**30), 10**30))
def test_money_for_machines_is_exact(value: int) -> None:
    said = formatting.money(value)
    assert Decimal(said).scaleb(12, Context(prec=80)) == value
    assert "E" not in said
    assert formatting.plain(value, "{currency}") == said
    assert formatting.plain(value, "s") == value


@given(st.text())
def test_a_labels_value_is_safe_in_a_terminal(value: str) -> None:
    shown = formatting.label(value)
    assert shown.isprintable()
    assert 1 <= len(shown) <= 48


def test_similar_names_are_suggested() -> None:
    names = {"dify.tokens.total", "dify.tokens.input", "dify.node.duration"}
    assert formatting.near("tokens", names) == "did you mean dify.tokens.input or dify.tokens.total?"
    assert "dify.node.duration" in formatting.near("dify.node.duratoin", names)
    assert (
        formatting.near("qq", names) == "there are dify.node.duration, dify.tokens.input, dify.tokens.total"
    )
    assert formatting.near("qq", [f"m{n}" for n in range(30)]).endswith("and 10 more")
    assert formatting.near("qq", ()) == "there are none"


# -- answers


def test_without_a_range_it_is_the_windows_that_end_with_the_newest_row_up_to_now() -> None:
    rows = [row(MIDNIGHT - 1000), *(row(MIDNIGHT + n) for n in range(-200, 1)), row(MIDNIGHT + 10**6)]
    one = query.answer("m", rows, rows, query.Query(), MIDNIGHT + 3)
    starts = [start for start, _ in one.found]
    assert (starts[0], starts[-1], len(starts)) == (MIDNIGHT - 175, MIDNIGHT, 36)
    future = query.answer("m", rows[-1:], rows[-1:], query.Query(), MIDNIGHT)
    assert len(future.found) == 1


def test_currencies_are_never_added() -> None:
    rows = [
        row(MIDNIGHT, {"currency": c, "app_id": a}, unit="{currency}", sum=n * 10**12)
        for c, a, n in (("USD", "a", 9), ("EUR", "a", 5), ("USD", "b", 2), ("EUR", "b", 1))
    ]
    one = query.answer("m", rows, rows, query.Query(), MIDNIGHT)
    assert {group: cell.sum // 10**12 for (_, group), cell in one.found.items()} == {
        ("USD",): 11,
        ("EUR",): 6,
    }
    few = query.shown(query.answer("m", rows, rows, query.Query(by=("app_id",)), MIDNIGHT), 1)
    assert {group: cell.sum // 10**12 for (_, group), cell in few.found.items()} == {
        ("a", "USD"): 9,
        ("(others)", "USD"): 2,
        ("(others)", "EUR"): 6,
    }
    assert [one.currency for one in query.listed(rows, query.Query())] == ["EUR", "USD"]


def test_tokens_that_count_twice_and_rows_of_another_unit_are_reported() -> None:
    rows = [
        row(MIDNIGHT, {"operation_type": t}, metric="dify.tokens.total", unit="{token}")
        for t in ("workflow", "node")
    ]
    asked = query.Query()
    (note,) = query.answer("dify.tokens.total", rows, rows, asked, MIDNIGHT).notes
    assert "--by operation_type" in note
    assert query.answer("dify.tokens.total", rows, rows[:1], asked, MIDNIGHT).notes == ()
    kept = query.answer("dify.tokens.total", rows, rows, query.Query(by=("operation_type",)), MIDNIGHT)
    assert kept.notes == ()
    mixed = [row(MIDNIGHT - 1, unit="x"), row(MIDNIGHT, unit="y")]
    one = query.answer("m", mixed, mixed, asked, MIDNIGHT)
    assert (one.unit, one.notes) == ("y", ("1 rows in another unit than y are left out",))


def test_a_label_that_no_row_has_is_refused_with_those_there_are() -> None:
    rows = [row(MIDNIGHT, {"node_type": "llm"}), row(MIDNIGHT, {"node_type": "code", "x": "1"})]
    for asked in (query.Query(by=("node_typ",)), query.Query(filters={"node_typ": frozenset("a")})):
        with pytest.raises(query.UnknownName, match="did you mean node_type"):
            query.select(rows, asked)
    assert query.select(rows, query.Query(filters={"node_type": frozenset(["llm", "tool"])})) == rows[:1]


# -- the plot


@given(st.floats(0, 1e15), st.sampled_from(["s", "{token}", "{currency}"]))
def test_ticks_are_few_and_reach_the_top(high: float, unit: str) -> None:
    found = ticks(high, unit)
    assert found[0] == 0
    assert found[-1] >= high * 0.999
    assert 2 <= len(found) <= 7
    assert found == sorted(set(found))
    assert len({formatting.human(v, unit) for v in found}) == len(found) or high < 1e7


@given(st.integers(0, 10**8), st.sampled_from([1, 5, 7, 60, 1440]), st.integers(2, 300), st.integers(40, 200))
def test_times_below_the_plot_are_few_and_on_it(first: int, step: int, n: int, width: int) -> None:
    starts = [first // step * step + i * step for i in range(n)]
    places, names = times(starts, width)
    assert 1 <= len(places) == len(names) <= width // 14 + 1
    assert set(places) <= set(range(n))


@given(st.lists(st.none() | st.just(1.0)))
def test_lines_have_gaps_where_there_is_no_value(values: list[float | None]) -> None:
    found = list(runs(values))
    assert [p for places, _ in found for p in places] == [n for n, v in enumerate(values) if v is not None]
    assert all(places == list(range(places[0], places[-1] + 1)) for places, _ in found)


def test_a_plot_has_its_units_its_times_and_a_legend() -> None:
    starts = [MIDNIGHT + 5 * n for n in range(24)]
    lines = [
        Line("llm", [3e6 * abs(math.sin(n)) for n in range(24)]),
        Line("code", [None if n in (5, 7) else 5e5 for n in range(24)]),
    ]
    drawn = draw("title", starts, lines, "s", 90, 16, colours=False)
    assert drawn[0] == "title"
    assert drawn[-2:] == ["a llm", "b code"]
    assert len(drawn) == 16 + 3
    assert max(map(len, drawn)) <= 90
    assert "\x1b" not in "".join(drawn)
    assert [line.split("┤")[0].strip() for line in drawn if "┤" in line] == ["3 s", "2 s", "1 s", "0"]
    assert drawn[-3].split() == ["Jun", "22", "00:00", "00:30", "01:00", "01:30"]
    assert "\x1b[36m━━\x1b[0m llm" in draw("title", starts, lines, "s", 90, 16, colours=True)


def test_without_plotext_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(MissingPackage, match=r"pip install 'tailrace\[metrics\]'"):
        draw("title", [MIDNIGHT], [Line("a", [1])], "s", 80, 16, colours=False)


def test_counters_are_drawn_with_zeros_and_histograms_with_gaps() -> None:
    rows = [row(MIDNIGHT, {"a": "x"}), row(MIDNIGHT + 10, {"a": "x"}), row(MIDNIGHT + 5, {"a": "y"}, sum=7)]
    _, starts, lines = views.plotted(query.answer("m", rows, rows, query.Query(by=("a",)), MIDNIGHT + 10))
    assert starts == [MIDNIGHT, MIDNIGHT + 5, MIDNIGHT + 10]
    assert lines == [Line("y", [0, 7, 0]), Line("x", [1, 0, 1])]
    nodes = [node(MIDNIGHT, "llm", 50_000), node(MIDNIGHT + 10, "llm", 50_000)]
    name, _, lines = views.plotted(query.answer("d", nodes, nodes, query.Query(), MIDNIGHT + 10))
    assert name == "d: p50, p95, p99 in 5m"
    assert [line.values for line in lines] == [[50_000, None, 50_000]] * 3


# -- the command


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(
        metrics,
        [
            "-b",
            settings.kafka.bootstrap_servers,
            "--set",
            f"topics.prefix={settings.topics.prefix}",
            *arguments,
        ],
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "30s"], "is not a valid duration; for example 1m, 15m, 1h or 1d"),
        (["--window", "5m", "--every", "1h"], "must not be longer than --window"),
        (["--from", "soon"], "is not a valid time; for example 2026-11-01T12:00"),
        (["--from", "-1h", "--to", "-2h"], "must be before --to"),
        (["--label", "app"], "is not label=value; for example model_name=gpt-4o"),
        (["--quantile", "95"], "not in the range"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(arguments: list[str], said: str) -> None:
    ran = CliRunner().invoke(metrics, ["-b", "127.0.0.1:1", *arguments])
    assert ran.exit_code == 2
    assert said in " ".join(ran.stderr.split())


def test_a_reading_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def list_topics(self, topic: str, timeout: float) -> Any:
            return SimpleNamespace(topics={topic: SimpleNamespace(partitions={0: None})})

        def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
            return 0, 5

        def consume(self, n: int, timeout: float) -> list[Any]:
            return []

        def assign(self, partitions: Any) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("tailrace.metrics.rows._consumer", lambda settings: Silent())
    seconds = iter(range(0, 1000, 10))
    with pytest.raises(
        KafkaUnavailable, match=r"trace\.metrics: no record arrived for 30 s, after 0 records"
    ):
        list(read(convert({}, Settings, ""), Reading(), clock=lambda: next(seconds)))


def spaced(line: str) -> str:
    return " ".join(line.split())


def fill(settings: Settings, changes: list[tuple[str, bytes | None]]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for key, value in changes:
        producer.produce(
            TopicNames.of(settings.topics).metrics, value, key.encode(), partition=int(key.split("/")[0])
        )
    assert producer.flush(30) == 0


def keyed(one: MetricRow) -> tuple[str, bytes]:
    series = abs(hash(tuple(sorted(one.labels.items())))) % 2**64
    return f"{one.partition}/{one.metric}/{series:016x}/{one.minute // MINUTE_US}", codec.encode(one)


@pytest.mark.kafka
def test_metrics_of_a_topic_with_overwrites_a_tombstone_and_garbage(
    topics_settings: Callable[..., Settings],
) -> None:
    made = topics_settings(partitions=2)
    topic = TopicNames.of(made.topics).metrics
    gone = keyed(node(MIDNIGHT + 9, "llm", 99_000_000))
    fill(
        made,
        [
            keyed(node(MIDNIGHT, "llm", 50_000)),
            keyed(node(MIDNIGHT, "llm", 50_000, 2_000_000)),  # the same minute, later
            keyed(node(MIDNIGHT, "llm", 500_000, partition=1)),  # of another source partition: added
            keyed(node(MIDNIGHT, "code", 5_000)),
            keyed(node(MIDNIGHT + 7, "code", 8_000)),
            gone,
            (gone[0], None),
            ("0/x/0000000000000000/1", b"no avro"),
            ("1/x/0000000000000000/2", codec.encode(row(bounds=[1], buckets=[1]))),
            keyed(
                row(
                    MIDNIGHT,
                    {"currency": "USD"},
                    metric="dify.cost.total",
                    unit="{currency}",
                    sum=1_250_000_000_001,
                )
            ),
        ],
    )

    ran = run(made)
    assert ran.exit_code == 0
    assert [spaced(line) for line in ran.stdout.splitlines()[1:]] == [
        "dify.cost.total {currency} 1 1 1.25 USD 2026-06-22 00:00 2026-06-22 00:00 currency",
        "dify.node.duration s 2 5 2.56 s 2026-06-22 00:00 2026-06-22 00:07 app_id,node_type",
    ]
    assert "not readable: " in ran.stderr
    assert f"{topic} partition 0 offset 6: bad_magic" in ran.stderr
    assert f"{topic} partition 1 offset 1: 1 buckets do not fit 1 bounds" in ran.stderr
    listed = json.loads(run(made, "--json").stdout)
    assert (listed["records"], listed["unreadable"]) == (10, 2)
    assert [(m["metric"], m["sum"], m["series"], m["last"]) for m in listed["metrics"]] == [
        ("dify.cost.total", "1.250000000001", 1, "2026-06-22T00:00Z"),
        ("dify.node.duration", 2_563_000, 2, "2026-06-22T00:07Z"),
    ]

    ran = run(made, "dify.node.duration", "--by", "node_type", "--quantile", "0.5", "--plot")
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    assert lines[0] == "dify.node.duration  s  windows of 5m  by node_type"
    assert spaced(lines[1]) == "window (UTC) node_type count sum mean p50 min max"
    assert spaced(lines[2]) == "2026-06-22 00:00 llm 3 2.55 s 850 ms 550 ms 50 ms 2 s"
    assert spaced(lines[3]) == "code 1 5 ms 5 ms 5 ms 5 ms 5 ms"
    assert spaced(lines[4]) == "2026-06-22 00:05 code 1 8 ms 8 ms 8 ms 8 ms 8 ms"
    assert "dify.node.duration: p50 in 5m" in lines
    assert lines[-2:] == ["a llm", "b code"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "plotext", None)
        bare = run(made, "dify.node.duration", "--by", "node_type", "--quantile", "0.5", "--plot")
    assert (bare.exit_code, bare.stdout.splitlines()) == (0, lines[:5])
    assert "the plot needs plotext: pip install 'tailrace[metrics]'" in bare.stderr

    ran = run(made, "dify.node.duration", "--by", "node_type", "--top", "1", "--window", "1d", "--plot")
    assert [spaced(line).split()[:4] for line in ran.stdout.splitlines()[2:]] == [
        ["2026-06-22", "00:00", "llm", "3"],
        ["(others)", "2", "13", "ms"],
    ]
    assert "note: shown are the 1 largest groups by sum, of 2; the rest is in (others); --top 2" in ran.stderr
    assert "no plot: it needs at least two windows" in ran.stderr

    ran = run(
        made, "dify.node.duration", "--label", "node_type=llm", "--window", "1h", "--every", "30m", "--json"
    )
    answer = json.loads(ran.stdout)
    assert set(answer) == {
        "metric",
        "unit",
        "values_in",
        "histogram",
        "window_minutes",
        "every_minutes",
        "from",
        "to",
        "by",
        "filters",
        "rows",
        "notes",
        "records",
        "unreadable",
    }
    assert (answer["values_in"], answer["histogram"], answer["filters"]) == (
        "microseconds",
        True,
        {"node_type": ["llm"]},
    )
    (first,) = [r for r in answer["rows"] if r["start"] == "2026-06-21T23:30Z"]
    assert first == {
        "start": "2026-06-21T23:30Z",
        "end": "2026-06-22T00:30Z",
        "labels": {},
        "count": 3,
        "sum": 2_550_000,
        "minimum": 50_000,
        "maximum": 2_000_000,
        "quantiles": {"0.5": 550_000, "0.95": 1_850_000, "0.99": 1_970_000},
    }

    (cost,) = json.loads(run(made, "dify.cost.total", "--json").stdout)["rows"]
    assert (cost["sum"], cost["labels"], cost["quantiles"]) == ("1.250000000001", {"currency": "USD"}, {})

    ran = run(made, "dify.node.latency")
    assert ran.exit_code == 2
    assert "did you mean dify.node.duration?" in ran.stderr
    ran = run(made, "dify.node.duration", "--by", "tenant")
    assert ran.exit_code == 2
    assert "there are app_id, node_type" in ran.stderr
    ran = run(made, "dify.node.duration", "--label", "node_type=tool")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "node_type is code, llm" in ran.stderr
    ran = run(made, "dify.node.duration", "--from", "2026-06-20", "--to", "2026-06-21")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "it has some from 2026-06-22 00:00 to 2026-06-22 00:07 UTC" in ran.stderr
    ran = run(made, "--to", "2026-06-21")
    assert (ran.exit_code, ran.stdout) == (0, "")


@pytest.mark.kafka
def test_what_comes_later_or_is_not_committed_is_not_read(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings(partitions=1)
    topic = TopicNames.of(made.topics).metrics
    producer = Producer(
        {"bootstrap.servers": made.kafka.bootstrap_servers, "transactional.id": f"{topic}-test"}
    )
    producer.init_transactions(30)
    for minute, end in ((1, producer.commit_transaction), (2, producer.abort_transaction), (3, None)):
        producer.begin_transaction()
        key, value = keyed(row(minute))
        producer.produce(topic, value, key.encode())
        producer.flush(30)
        if end:
            end(30)
    reading, seen = Reading(), []
    found = [one for _, one in read(made, reading, lambda r: seen.append(r.records))]
    assert [one.minute for one in found if one] == [MINUTE_US]
    assert reading.records == 1
    assert seen[-1] == 1
    producer.abort_transaction(30)

    fill(made, [keyed(row(5))])
    changes = read(made, Reading())
    first = next(changes)[1]
    fill(made, [keyed(row(n)) for n in range(6, 9)])
    assert [one.minute // MINUTE_US for one in (first, *(one for _, one in changes)) if one] == [1, 5]


@pytest.mark.kafka
def test_an_empty_topic_and_a_missing_one(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings(partitions=1)
    for arguments in ([], ["dify.requests.total"]):
        ran = run(made, *arguments)
        assert (ran.exit_code, ran.stdout) == (0, "")
        assert f"{made.topics.prefix}metrics has no rows: `tailrace process` writes them" in ran.stderr
    assert json.loads(run(made, "--json").stdout) == {"metrics": [], "records": 0, "unreadable": 0}
    answer = json.loads(run(made, "m", "--json").stdout)
    assert (answer["metric"], answer["rows"], answer["from"]) == ("m", [], None)
    key, _ = keyed(row())
    fill(made, [(key, None)])
    assert "has records, but no rows of any metric any more" in run(made).stderr
    ran = run(topics_settings(create=False))
    assert isinstance(ran.exception, TopicMismatch)
    assert "metrics is missing: run `tailrace topics create`" in str(ran.exception)


def test_the_constant_midnight_is_its_date() -> None:
    assert datetime.fromtimestamp(MIDNIGHT * 60, UTC).isoformat() == "2026-06-22T00:00:00+00:00"
