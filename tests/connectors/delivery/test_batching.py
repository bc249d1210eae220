"""Batches of one partition: order, bounds, and when a batch is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.batching import BatchLimits, Buffer

limits = st.builds(BatchLimits, st.integers(1, 20), st.integers(1, 500), st.just(0.2))


@given(limits, st.lists(st.integers(0, 300)))
def test_order_is_kept_and_bounds_hold(bounds: BatchLimits, sizes: list[int]) -> None:
    buffer: Buffer[int] = Buffer(bounds)
    for i, size in enumerate(sizes):
        buffer.add(i, size, 0.0)
    assert buffer.bytes == sum(sizes)
    out: list[int] = []
    while len(buffer):
        waiting = len(buffer)
        batch = buffer.take()
        assert 1 <= len(batch) <= bounds.max_records
        assert sum(sizes[i] for i in batch) <= bounds.max_bytes or len(batch) == 1
        cut = out[-1:] and len(batch) < min(waiting, bounds.max_records)
        if cut:  # it stopped for the bytes: the next one would not have fitted
            assert sum(sizes[i] for i in batch) + sizes[batch[-1] + 1] > bounds.max_bytes
        out += batch
    assert out == list(range(len(sizes)))
    assert (buffer.take(), buffer.bytes) == ([], 0)


@given(limits, st.lists(st.integers(0, 300)))
def test_full_means_a_batch_that_cannot_grow(bounds: BatchLimits, sizes: list[int]) -> None:
    buffer: Buffer[int] = Buffer(bounds)
    for i, size in enumerate(sizes):
        buffer.add(i, size, 0.0)
    assert buffer.full == (len(sizes) >= bounds.max_records or sum(sizes) >= bounds.max_bytes)


def test_due_when_full_or_old() -> None:
    buffer: Buffer[str] = Buffer(BatchLimits(3, 1000, 0.2))
    assert not buffer.due(100.0)
    buffer.add("a", 1, 10.0)
    buffer.add("b", 1, 10.15)
    assert not buffer.due(10.19)
    assert buffer.due(10.21)
    buffer.add("c", 1, 10.19)
    assert buffer.due(10.19)
    assert buffer.take() == ["a", "b", "c"]
    buffer.add("d", 2000, 11.0)
    assert buffer.due(11.0)
    buffer.clear()
    assert (len(buffer), buffer.bytes, buffer.due(99.0)) == (0, 0, False)
