"""Events in flight, and their delivery reports."""

from __future__ import annotations

import threading

import pytest

from tailrace.delivery_reports import DeliveryReport, FlushReport, InFlight
from tailrace.errors import PublisherClosed


def test_counts_add_up() -> None:
    flight = InFlight()
    handles = [flight.add(f"e{i}") for i in range(5)]
    flight.settle(handles[0], True)
    flight.settle(handles[1], False)
    flight.settle(handles[1], True)  # a second report of the same event counts nothing
    flight.forget(handles[2])
    flight.drop()
    counts = flight.counts()
    assert (counts.accepted, counts.delivered, counts.failed, counts.dropped, counts.in_flight) == (
        4,
        1,
        1,
        1,
        2,
    )
    assert flight.ids() == ("e3", "e4")


def test_nothing_is_added_after_closing() -> None:
    flight = InFlight()
    handle = flight.add("e")
    flight.close()
    with pytest.raises(PublisherClosed):
        flight.add("late")
    flight.settle(handle, True)
    assert flight.ids() == ()


def test_threads_share_the_events_in_flight() -> None:
    flight = InFlight()

    def work() -> None:
        for i in range(2000):
            flight.settle(flight.add("e"), i % 2 == 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    counts = flight.counts()
    assert (counts.accepted, counts.delivered, counts.failed, counts.in_flight) == (8000, 4000, 4000, 0)


def test_a_report_is_true_if_all_is_delivered() -> None:
    assert DeliveryReport(event_id="e", partition=1, offset=2).ok
    assert not DeliveryReport(event_id="e", error="why").ok
    assert FlushReport()
    assert not FlushReport(undelivered=("e",))
