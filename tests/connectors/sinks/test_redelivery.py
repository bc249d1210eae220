"""A whole topic sent again, three times, in other batches: vendors' stores hold what they held, OTLP spans
are the same bytes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import pytest

from tailrace import Publisher
from tailrace.broker import Broker
from tailrace.ledger.report import read_report
from tailrace.settings import Settings
from tests.connectors.vendors import VENDORS
from tests.golden.events import completed
from tests.harness.mixed import mixed
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until

pytestmark = pytest.mark.kafka

BATCHES: Final = (500, 7, 50, 23)
"""Records of a request at most, a round each: the same records are neighbours of others every time."""
MIXED: Final = 400


class Vendors:
    """The doubles on a loop of their own, in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self) -> None:
        self.doubles = {name: vendor.stored.double() for name, vendor in VENDORS.items()}
        for double in self.doubles.values():
            await double.start()

    async def _stop(self) -> None:
        for double in self.doubles.values():
            await double.stop()

    def env(self, most: int) -> dict[str, str]:
        return {
            f"TAILRACE_SINKS_{name.upper()}_{key.upper()}": value
            for name, vendor in VENDORS.items()
            for key, value in {
                **vendor.stored.settings(self.doubles[name]),
                "max_records": str(most),
            }.items()
        }

    def requests(self) -> tuple[int, ...]:
        return tuple(double.requests for double in self.doubles.values())

    def stored(self) -> dict[str, Collection[Any]]:
        """What the doubles hold, by their own rules of merging; of OTLP, what came since the last call."""
        return {
            f"{name} {what}": rows
            for name, vendor in VENDORS.items()
            for what, rows in vendor.stored.state(self.doubles[name]).items()
        }


def settled(settings: Settings, pipeline: Pipeline) -> dict[str, tuple[int, int, int, int]]:
    """Sink -> passed, delivered, filtered and dead-lettered records, of books that balance and have nothing
    open."""
    books = read_report(pipeline.admin, settings)
    assert books.balanced, books
    assert books.settled, books
    found: dict[str, tuple[int, int, int, int]] = {}
    for a in books.sinks:
        assert a.gaps == a.unnumbered == 0, a
        before = found.get(a.sink, (0, 0, 0, 0))
        now = (a.passed, a.delivered, a.filtered, a.dead_lettered)
        found[a.sink] = tuple(x + y for x, y in zip(before, now, strict=True))  # type: ignore[assignment]
    return found


def test_a_topic_that_is_redelivered_three_times_leaves_what_it_left_once(
    broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    events = [*completed().values(), *mixed(11, MIXED, time.time_ns() // 1000)]
    with Publisher(settings=pipeline.settings) as publisher:
        for event in events:
            publisher.publish(event)
    with pipeline.process() as process:

        def applied() -> bool:
            streams = pipeline.ledger_report().streams
            return sum(a.events_in - a.links for a in streams) >= len(events) and not any(
                a.pending for a in streams
            )

        wait_until(applied, 60, "all is applied", alive=(process,), every=0.2)
        assert process.sigterm(60) == 0, process.tail()
    enriched = sum(a.enriched for a in pipeline.ledger_report().streams)
    assert enriched > MIXED

    with Vendors() as vendors:
        states: list[dict[str, Collection[Any]]] = []
        counts = []
        writes = []
        for number, most in enumerate(BATCHES):
            prefix = f"{pipeline.settings.connect.group_prefix}round{number}-"
            connect = msgspec.structs.replace(pipeline.settings.connect, group_prefix=prefix)
            env = {**vendors.env(most), "TAILRACE_CONNECT_GROUP_PREFIX": prefix}
            before = vendors.requests()
            with pipeline.tailrace(
                "connect", *VENDORS, "--until-caught-up", name=f"round{number}", env=env
            ) as child:
                assert child.wait(90) == 0, child.tail()
            writes.append(tuple(x - y for x, y in zip(vendors.requests(), before, strict=True)))
            states.append(vendors.stored())
            counts.append(settled(msgspec.structs.replace(pipeline.settings, connect=connect), pipeline))

    first = states[0]
    spans: Any = first["otlp spans"]
    sent = sum(map(len, spans.values()))
    print(f"\n{enriched} records; {writes} requests; {sent} OTLP spans of {len(spans)} ids")
    print({k: len(v) for k, v in first.items()}, counts[0])
    # something of every type is there, and a round is a whole redelivery
    assert first["langfuse problems"] == []
    least = {f"{name} {what}": n for name, v in VENDORS.items() for what, n in v.stored.least.items()}
    assert all(len(first[name]) >= most for name, most in least.items()), {
        k: len(v) for k, v in first.items()
    }
    assert set(counts[0]) == set(VENDORS)
    assert all(passed == enriched and delivered > 100 for passed, delivered, *_ in counts[0].values()), counts
    assert counts[0]["otlp"][1] == sent
    assert all(len({w[i] for w in writes}) == len(BATCHES) for i in range(len(VENDORS))), (
        f"the batches were no others: {writes}"
    )
    # and nothing has changed
    for number in range(1, len(BATCHES)):
        assert counts[number] == counts[0]
        for name, rows in first.items():
            assert states[number][name] == rows, f"{name} after round {number}"
