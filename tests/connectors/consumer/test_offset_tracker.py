"""The offset tracker: what may be committed is the acknowledged prefix of a partition."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from connectors.consumer.offset_tracker import DEAD_LETTERED, DELIVERED, FILTERED, OffsetTracker
from tailrace.ledger.sink_ledger import SinkLedger, Tally

verdicts = st.sampled_from((DELIVERED, FILTERED, DEAD_LETTERED))


@given(st.lists(st.tuples(verdicts, st.integers(1, 3)), max_size=40), st.randoms(use_true_random=False))
def test_only_a_contiguous_prefix_counts_in_any_order_of_acknowledgement(
    records: list[tuple[Tally, int]], rng: random.Random
) -> None:
    """Offsets have gaps (transaction markers), numbers have none. Records are acknowledged in any order."""
    progress = OffsetTracker(SinkLedger(), 100)
    read, offset = [], 100
    for i, (_, step) in enumerate(records):
        read.append(progress.read(offset, i, 0))
        offset += step
    order = list(range(len(records)))
    rng.shuffle(order)
    done: set[int] = set()
    total = Tally()
    for i in order:
        read[i].tally = records[i][0]
        done.add(i)
        settled, gaps = progress.advance()
        total = Tally.sum((total, settled))
        prefix = next((n for n in range(len(records)) if n not in done), len(records))
        assert not gaps
        assert progress.ledger.last == prefix - 1
        assert progress.ledger.balanced()
        assert progress.next_offset == (read[prefix - 1].offset + 1 if prefix else 100)
        assert len(progress) == len(records) - prefix
    assert total == Tally.sum(t for t, _ in records)


def test_the_position_counts_only_when_nothing_is_open() -> None:
    progress = OffsetTracker(SinkLedger(), 5)
    record = progress.read(5, 0, 0)
    progress.pass_to(9)
    assert progress.next_offset == 5
    record.tally = FILTERED
    progress.advance()
    progress.pass_to(9)
    assert progress.next_offset == 9
    progress.pass_to(-1001)
    assert progress.next_offset == 9


def test_gaps_repetitions_and_generations_are_reported_where_they_show() -> None:
    progress = OffsetTracker(SinkLedger(0, -1, 9, delivered=10), 50)
    # Sequence and generation: 12 and 13 are missing, 14 and 13 come again; then a record without a number,
    # and a new generation in which 1 is missing.
    numbers: list[tuple[int | None, int | None]] = [
        (10, 0),
        (11, 0),
        (14, 0),
        (14, 0),
        (13, 0),
        (15, 0),
        (None, None),
        (16, 0),
        (0, 1),
        (2, 1),
    ]
    for offset, (sequence, generation) in enumerate(numbers, 50):
        progress.read(offset, sequence, generation).tally = DELIVERED
    settled, gaps = progress.advance()
    assert settled == Tally(delivered=10)
    assert [(g.offset, g.expected, g.got, g.missing, g.repeated) for g in gaps] == [
        (52, 12, 14, 2, 0),
        (53, 15, 14, 0, 1),
        (54, 15, 13, 0, 1),
        (59, 1, 2, 1, 0),
    ]
    assert progress.ledger == SinkLedger(1, -1, 2, delivered=2, gaps=1)
    assert progress.next_offset == 60


def test_a_gap_after_records_without_a_number_is_reported() -> None:
    progress = OffsetTracker(SinkLedger(0, -1, 9, delivered=10), 50)
    for offset, sequence in enumerate((None, None, 12), 50):
        progress.read(offset, sequence, None if sequence is None else 0).tally = DEAD_LETTERED
    _, gaps = progress.advance()
    assert [(g.offset, g.expected, g.got, g.missing, g.repeated) for g in gaps] == [(52, 10, 12, 2, 0)]
    assert progress.ledger == SinkLedger(0, -1, 12, delivered=10, dead_lettered=3, gaps=2, unnumbered=2)
