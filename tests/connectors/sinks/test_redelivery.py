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

import pytest

from tailrace.broker import Broker
from tests.connectors.vendors import VENDORS
from tests.golden.events import completed
from tests.harness.mixed import mixed
from tests.harness.pipeline import Pipeline
from tests.harness.redelivery import deliver, enrich

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


@pytest.mark.slow
def test_a_topic_that_is_redelivered_three_times_leaves_what_it_left_once(
    broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    events = [*completed().values(), *mixed(11, MIXED, time.time_ns() // 1000)]
    enriched = enrich(pipeline, events)
    assert enriched > MIXED

    with Vendors() as vendors:
        states: list[dict[str, Collection[Any]]] = []
        counts = []
        writes = []
        for number, most in enumerate(BATCHES):
            before = vendors.requests()
            counts.append(deliver(pipeline, list(VENDORS), vendors.env(most), number))
            writes.append(tuple(x - y for x, y in zip(vendors.requests(), before, strict=True)))
            states.append(vendors.stored())

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
