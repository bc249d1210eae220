"""The counts of a partition: groups of events, in total and by minute, and their rows and series.

Deterministic in the log. docs/metrics.md has the rules for what is counted when.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

from streams.processing.header import Header
from streams.processing.limits import MetricLimits
from streams.processing.metrics import distribution
from streams.processing.metrics.definitions import definitions
from streams.processing.metrics.group_state import GroupState, Minute, packed_minute, values_of
from streams.processing.metrics.grouping import Group, group_of, overflow_of, raw_key
from streams.processing.metrics.kinds import BY_KIND
from streams.processing.metrics.series import Series
from streams.processing.operations import MOST_TOKENS, count, failed
from tailrace.codec import wire
from tailrace.codec.varint import varint, zigzag
from tailrace.errors import DecodeError
from tailrace.memo import LONGEST, size_of
from tailrace.metrics.row_period import ROW_PERIOD_MS, ROW_PERIOD_US
from tailrace.records import MetricGroup, MetricMinute, TokenClasses

GROUP: Final = b"g/"
MINUTES: Final = b"m/"
"""Key prefixes in trace.state."""
_MEMO: Final = 65_536
_HOUR_MS: Final = 3_600_000
_IDLE_CHECK_MS: Final = 60_000
_DURATION_MOST: Final = 1 << 50
_ALWAYS_TOTAL: Final = frozenset(k for k, c in BY_KIND.items() if c.no_tokens)

Written = list[tuple[bytes, bytes | None]]


class MetricAggregator:
    """Counts the events of one partition."""

    def __init__(self, partition: int, limits: MetricLimits) -> None:
        self.limits = limits
        self._partition, self._number = partition, zigzag(partition)
        self.next_group = 0
        self.oldest_minute = 0
        self.corrections = self.skewed = self.late = self.overflowed = 0
        self._groups: dict[int, GroupState] = {}
        self._by_group: dict[Group, GroupState] = {}
        self._of_kind: dict[str, int] = {}
        self._memo: dict[tuple[Any, ...], tuple[GroupState, bool] | None] = {}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Series] = {}
        self._minutes: dict[int, list[GroupState]] = {}
        """Minute -> the groups that have one."""
        self._order: list[int] = []
        """The minutes as a heap."""
        self.rows = 0
        self._changed: dict[GroupState, set[int]] = {}
        """Groups, and their minutes, that have changes not yet in trace.state."""
        self._unwritten: dict[GroupState, set[int]] = {}
        """Changes not yet in trace.metrics and trace.totals."""
        self._gone: list[bytes] = []
        self._closing: Written = []
        """Rows that were closed before they were written."""
        self._ended: list[bytes] = []
        """Keys of series whose end is not yet in trace.totals."""
        self._aged_minute = 0

    @property
    def groups(self) -> int:
        """Groups that are counted separately."""
        return len(self._groups)

    @property
    def unwritten(self) -> bool:
        return bool(self._unwritten)

    # -- counting
    def find(self, h: Header, price: int, clock: int, classed: bool) -> tuple[GroupState, bool] | None:
        """The group that counts an event, and whether it is the overflow group; None if no metric counts it.

        Args:
            price: see `raw_key`.
            clock: the partition's clock, milliseconds.
            classed: see `raw_key`.
        """
        key = raw_key(h, price, classed)
        try:
            return self._memo[key]
        except KeyError:
            pass
        group = group_of(h, price, classed)
        found: tuple[GroupState, bool] | None = None
        if group is not None:
            counted = self._by_group.get(group)
            over = counted is None and self._of_kind.get(group.kind, 0) >= self.limits.max_groups
            if over:
                group = overflow_of(group)
                counted = self._by_group.get(group)
            if counted is None:
                counted = self._begin(group, clock)
            found = counted, over
        if size_of(key) <= LONGEST:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[key] = found
        return found

    def _begin(self, group: Group, clock: int) -> GroupState:
        counted = GroupState(self.next_group, group, clock, distribution.empty())
        self.next_group += 1
        self._place(counted)
        return counted

    def _place(self, counted: GroupState) -> None:
        group = counted.group
        self._groups[counted.number] = self._by_group[group] = counted
        if group != overflow_of(group):
            self._of_kind[group.kind] = self._of_kind.get(group.kind, 0) + 1
        for definition in definitions(group):
            name = (definition.metric, definition.labels)
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = Series(self._partition, definition)
            series.groups.append(counted.number)
            counted.series.append(series)

    def add(
        self,
        h: Header,
        found: tuple[GroupState, bool],
        price: int,
        skewed: bool,
        clock: int,
        offset: int,
        classes: TokenClasses | None,
    ) -> None:
        """Counts an event of revision 0. Cannot fail.

        Args:
            price: 1e-12 of its currency, -1 for none.
            clock: the partition's clock, milliseconds.
            classes: its tokens by class, if they are plausible.
        """
        counted, overflow = found
        if overflow:
            self.overflowed += 1
        length = h.ended_at - h.started_at
        length = 0 if length < 0 else length if length < _DURATION_MOST else _DURATION_MOST
        total = h.total_tokens
        if total is not None and not 0 < total < MOST_TOKENS and (total != 0 or h.kind not in _ALWAYS_TOTAL):
            total = None
        given, received, first = h.input_tokens, h.output_tokens, h.time_to_first_token
        bad = failed(h)
        given, received = count(given) if given else 0, count(received) if received else 0
        first = first if first is not None and 0 <= first < _DURATION_MOST else -1
        event = (bad, length, total, given, received, first, price)
        split = None
        if classes is not None and counted.classed:
            split = distribution.split(given, received, classes)
        counted.appended_at, counted.touched = clock, offset
        changed = self._changed.get(counted)
        if changed is None:
            changed = self._changed[counted] = set()
            if counted not in self._unwritten:
                self._unwritten[counted] = set()
        number = h.started_at // ROW_PERIOD_US
        if skewed or number < self.oldest_minute:
            self.skewed += skewed
            self.late += not skewed
            if counted.pending is None:
                counted.pending = []
            counted.pending.append(event)
            if split is not None:
                counted.splits.append(split)
            return
        minute = counted.minutes.get(number)
        if minute is None:
            minute = counted.minutes[number] = Minute(offset, distribution.empty())
            counted.open.append(number)
            self._keep(counted, number)
        minute.touched = offset
        if split is not None:
            if minute.splits is None:
                minute.splits = []
            minute.splits.append(split)
        if minute.pending is None:
            minute.pending = [event]
            changed.add(number)
            self._unwritten[counted].add(number)
        else:
            minute.pending.append(event)

    def _settle(self) -> None:
        """Adds the open unit's events to the values of their groups and minutes."""
        for counted, minutes in self._changed.items():
            values = counted.values
            if isinstance(values, bytes):
                values = counted.values = distribution.unpack(values)
            if counted.pending is not None:
                distribution.add((values,), counted.pending)
                counted.pending = None
                if counted.splits:
                    distribution.add_splits((values,), counted.splits)
                    counted.splits = []
            for number in minutes:
                minute = counted.minutes[number]
                if minute.pending is None:
                    continue
                row = minute.values
                if isinstance(row, bytes):
                    row = minute.values = distribution.unpack(row)
                    counted.open.append(number)
                distribution.add((values, row), minute.pending)
                minute.pending = None
                if minute.splits:
                    distribution.add_splits((values, row), minute.splits)
                    minute.splits = None

    def _keep(self, counted: GroupState, number: int) -> None:
        having = self._minutes.get(number)
        if having is None:
            self._minutes[number] = [counted]
            heapq.heappush(self._order, number)
        else:
            having.append(counted)
        self.rows += 1

    # -- forgetting
    def advance(self, clock: int) -> None:
        """Advances to the partition's clock (milliseconds).

        Closes rows beyond the horizon and above the limit; once per minute it ends idle groups.
        """
        oldest = (clock - self.limits.horizon_ms) // ROW_PERIOD_MS
        if oldest > self.oldest_minute:
            self._close_below(oldest)
        while self.rows > self.limits.max_rows and self._order:
            self._close_below(self._order[0] + 1)
        if clock // _IDLE_CHECK_MS != self._aged_minute:
            self._aged_minute = clock // _IDLE_CHECK_MS
            self._end_idle(clock - self.limits.horizon_ms - _HOUR_MS)

    def _close_below(self, minute: int) -> None:
        """Forgets the rows of minutes before this one. On the topic they stay as they are."""
        self._settle()
        self.oldest_minute = minute
        while self._order and self._order[0] < minute:
            number = heapq.heappop(self._order)
            members = self._minutes.pop(number)
            due = {s: None for c in members if number in self._unwritten.get(c, ()) for s in c.series}
            self._closing += filter(None, (self._row(series, number) for series in due))
            for counted in members:
                del counted.minutes[number]
                self.rows -= 1
                self._gone.append(b"%b%d/%d" % (MINUTES, counted.number, number))
                for kept in (self._changed, self._unwritten):
                    if counted in kept:
                        kept[counted].discard(number)

    def _end_idle(self, before: int) -> None:
        """Ends all groups of an application without events since `before` (milliseconds)."""
        self._settle()
        idle: dict[tuple[str, str], bool] = {}
        for c in self._groups.values():
            scope = c.group.scope
            idle[scope] = idle.get(scope, True) and c.appended_at < before
        ending = [c for c in self._groups.values() if idle[c.group.scope]]
        due = {(s, n): None for c in ending for n in self._unwritten.get(c, ()) for s in c.series}
        self._closing += filter(None, (self._row(series, number) for series, number in due))
        for c in ending:
            self._end(c)

    def _end(self, counted: GroupState) -> None:
        for number in list(counted.minutes):
            self._minutes[number].remove(counted)
            self.rows -= 1
            self._gone.append(b"%b%d/%d" % (MINUTES, counted.number, number))
        self._gone.append(b"%b%d" % (GROUP, counted.number))
        del self._groups[counted.number], self._by_group[counted.group]
        if counted.group != overflow_of(counted.group):
            self._of_kind[counted.group.kind] -= 1
        self._changed.pop(counted, None)
        self._unwritten.pop(counted, None)
        for series in counted.series:
            series.groups.remove(counted.number)
            if not series.groups:
                del self._series[series.definition.metric, series.definition.labels]
                self._ended.append(series.key)
        self._memo.clear()

    # -- writing
    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Records of trace.state for what changed since the last call."""
        self._settle()
        for gone in self._gone:
            yield gone, None
        self._gone = []
        for counted, minutes in self._changed.items():
            number = counted.number
            yield b"%b%d" % (GROUP, number), counted.pack()
            for minute in minutes:
                yield b"%b%d/%d" % (MINUTES, number, minute), packed_minute(counted.minutes[minute])
        self._changed = {}

    def closing(self) -> Written:
        """Records of trace.metrics for rows closed since the last call.

        They must be written together with the changes.
        """
        rows, self._closing = self._closing, []
        return rows

    def ended(self) -> Written:
        """Tombstones of trace.totals for series that ended since the last call.

        They must be written together with the changes, which no longer have the groups of these series.
        """
        gone: Written = [(key, None) for key in self._ended]
        self._ended = []
        return gone

    def flush(self) -> tuple[Written, Written]:
        """Records of trace.metrics and of trace.totals for what changed since the last call.

        Packs the minutes afterwards.
        """
        rows: Written = []
        totals: Written = []
        groups, partition = self._groups, self._number
        by_minute: dict[tuple[Series, int], None] = {}
        changed: dict[Series, None] = {}
        for counted, minutes in self._unwritten.items():
            for series in counted.series:
                changed[series] = None
                for minute in minutes:
                    by_minute[series, minute] = None
        rows += filter(None, (self._row(series, minute) for series, minute in by_minute))
        for series in changed:
            members = [groups[n] for n in series.groups]
            total = series.total(
                partition,
                min(c.started_at for c in members) * 1000,
                max(c.appended_at for c in members) * 1000,
                [values_of(c) for c in members],
                max(c.touched for c in members),
            )
            if total is not None:
                totals.append(total)
        self._pack_away()
        self._unwritten = {}
        return rows, totals

    def _row(self, series: Series, minute: int) -> tuple[bytes, bytes] | None:
        groups = self._groups
        having = [m for n in series.groups if (m := groups[n].minutes.get(minute)) is not None]
        return series.row(
            self._number, minute, [values_of(m) for m in having], max(m.touched for m in having)
        )

    def _pack_away(self) -> None:
        """Packs the written minutes, except the latest of each group: few of them change again."""
        for counted in self._unwritten:
            if len(counted.open) > 1:
                latest = max(counted.open)
                for number in counted.open:
                    kept = counted.minutes.get(number)
                    if kept is not None and number != latest:
                        kept.values = distribution.pack(values_of(kept))
                counted.open = [latest]

    # -- restoring
    def restore_group(self, number: int, value: bytes) -> None:
        """Restores one group of a former owner; the order does not matter. Raises `DecodeError`."""
        m = wire.decode_versioned(value, MetricGroup)
        counted = GroupState(number, Group(m.kind, tuple(m.labels), tuple(m.datasets)), m.started_at, [])
        counted.values, counted.appended_at, counted.touched = (
            distribution.unpack(m.values),
            m.appended_at,
            m.touched,
        )
        self._place(counted)

    def restore_minute(self, group: int, minute: int, value: bytes) -> None:
        """Restores one minute; its group must be restored first. Raises `DecodeError`, KeyError."""
        counted = self._groups[group]
        if value[:1] == b"\1":  # decoded by hand, because there are many
            touched, p = varint(value, 1)
            length, p = varint(value, p)
            values = value[p:]
            if len(values) != length:
                raise DecodeError("truncated", f"{len(values)} of {length} bytes of counted values")
        else:
            m = wire.decode_versioned(value, MetricMinute)
            touched, values = m.touched, m.values
        counted.minutes[minute] = Minute(touched, values)
        self._keep(counted, minute)

    def restored(self, clock: int, flushed: int) -> None:
        """Called when all groups and minutes are restored; changes since offset `flushed` are written again.

        Args:
            clock: the partition's clock, milliseconds.
        """
        self._aged_minute = clock // _IDLE_CHECK_MS
        for counted in self._groups.values():
            if counted.touched >= flushed:
                self._unwritten[counted] = {n for n, m in counted.minutes.items() if m.touched >= flushed}
