"""A group of events and its counts, in total and by minute, in memory and packed for trace.state."""

from __future__ import annotations

from streams.processing.avro import string, strings
from streams.processing.metrics import distribution
from streams.processing.metrics.distribution import Observed, Split, Values
from streams.processing.metrics.grouping import Group
from streams.processing.metrics.series import Series
from tailrace.codec.varint import zigzag


class GroupState:
    """One group and its counts."""

    __slots__ = (
        "_head",
        "appended_at",
        "classed",
        "group",
        "minutes",
        "number",
        "open",
        "pending",
        "series",
        "splits",
        "started_at",
        "touched",
        "values",
    )

    def __init__(self, number: int, group: Group, started_at: int, values: Values) -> None:
        self.number, self.group = number, group
        self.started_at = self.appended_at = started_at
        self.touched = -1
        self.values: Values | bytes = values
        self.minutes: dict[int, Minute] = {}
        self.pending: list[Observed] | None = None
        """Events of the open unit that belong to no minute."""
        self.classed = group.label("classes") == "true"
        """Whether its events have token counts by class."""
        self.splits: list[Split] = []
        """The token counts by class of `pending`."""
        self.open: list[int] = []
        """Minutes whose values are not packed."""
        self.series: list[Series] = []
        self._head = b"".join(
            (
                b"\1",
                string(group.kind.encode()),
                strings(v.encode() for v in group.labels),
                strings(v.encode() for v in group.datasets),
                zigzag(started_at),
            )
        )

    def pack(self) -> bytes:
        """The value in trace.state: a version byte and the Avro body of `MetricGroup`."""
        packed = distribution.pack(values_of(self))
        return b"".join((self._head, zigzag(self.appended_at), zigzag(self.touched), string(packed)))


class Minute:
    """The counts of a group in one minute: open, or packed."""

    __slots__ = ("pending", "splits", "touched", "values")

    def __init__(self, touched: int, values: Values | bytes) -> None:
        self.touched, self.values = touched, values
        self.pending: list[Observed] | None = None
        """Events of the open unit that are not yet in `values`."""
        self.splits: list[Split] | None = None
        """The token counts by class of `pending`."""


def values_of(holder: GroupState | Minute) -> Values:
    """The values of a group or minute, unpacked if necessary."""
    values = holder.values
    return distribution.unpack(values) if isinstance(values, bytes) else values


def packed_minute(minute: Minute) -> bytes:
    """The value in trace.state: a version byte and the Avro body of `MetricMinute`."""
    return b"\1" + zigzag(minute.touched) + string(distribution.pack(values_of(minute)))
