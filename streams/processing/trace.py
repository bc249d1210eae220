"""An open trace in memory, and its packed form in trace.state.

What the events of a trace share is encoded once and cached.
"""

from __future__ import annotations

from typing import Final

import msgspec

from streams.processing.avro import array, nullable, string, strings
from streams.processing.correlate import OWN, Root, shows_root
from streams.processing.header import Header
from streams.processing.money import decimal_text
from streams.processing.operations import KINDS, Operations
from streams.processing.overflow_totals import OverflowTotals
from streams.processing.summary import LARGEST, sum_up
from tailrace import ids
from tailrace.codec import wire
from tailrace.codec.varint import varint, zigzag
from tailrace.errors import DecodeError
from tailrace.ids import dedupe_hash
from tailrace.memo import Memo
from tailrace.records import RootSource, TraceState

_TEXTS: Final = (
    "root_trace_id",
    "root_run_id",
    "tenant_id",
    "user_id",
    "session_id",
    "conversation_id",
    "app_id",
    "app_name",
    "workspace_name",
)
_VERSION: Final = bytes([1])
MOST: Final = 1000
"""Corrected operations, and nested runs, that a trace remembers, so that its state record stays small."""
_MEMO: Final = 16_384
MOST_RUN_BYTES: Final = 49_152
"""Most bytes of these runs' ids: about 1,300 UUIDs, so that the number decides for them."""
MOST_DATASETS: Final = 100
"""Datasets whose names a trace remembers."""
MOST_DATASET_BYTES: Final = 32_768
"""Most bytes of their ids and names."""


def _itself(value: bytes) -> bytes:
    return value


_same: Final[Memo[bytes, bytes]] = Memo(_itself, _MEMO)
"""Shares one object for equal texts: applications and tenants repeat across traces."""


def _of_the_root(h: Header, value: bytes | None) -> bytes | None:
    """`value`, unless the event belongs to a nested run, whose application is not the trace's."""
    return value if h.parent_run_id is None else None


class Trace:
    """What the processor knows about one open trace.

    Sticky fields keep the first non-null value in the log.
    """

    __slots__ = (
        "_run_bytes",
        "_shared",
        "app_id",
        "app_name",
        "appended_at",
        "certain",
        "conversation_id",
        "datasets",
        "events",
        "operations",
        "otel_trace_id",
        "part",
        "revisions",
        "root",
        "root_run_id",
        "root_trace_id",
        "run",
        "runs",
        "session_id",
        "start_unknown",
        "started_at",
        "tenant_id",
        "touched",
        "user_id",
        "workspace_name",
    )

    def __init__(self, root_trace_id: bytes | None, started_at: int, part: int = 0) -> None:
        """Creates a trace. `part`: source offset of its first event."""
        self.root_trace_id = root_trace_id
        self.started_at = started_at
        self.part = part
        self.appended_at = 0
        self.touched = -1
        self.root: str = OWN
        self.root_run_id: bytes | None = None
        self.otel_trace_id: bytes | None = None
        self.tenant_id: bytes | None = None
        self.user_id: bytes | None = None
        self.session_id: bytes | None = None
        self.conversation_id: bytes | None = None
        self.app_id: bytes | None = None
        self.app_name: bytes | None = None
        self.workspace_name: bytes | None = None
        self.events = 0
        self.certain = False
        self.start_unknown = False
        """Whether it may have had another start before."""
        self.run: bytes | None = None
        """The run whose link was written to the log first; most traces have only one."""
        self.runs: dict[bytes, None] | None = None
        """Further runs, the oldest first."""
        self._run_bytes = 0
        self.revisions: dict[bytes, int] | None = None
        self.datasets: dict[bytes, bytes] | None = None
        self.operations = Operations()
        self._shared: bytes | None = None

    def add(self, h: Header, root: Root, appended_at: int, offset: int) -> None:
        """Counts one event and learns from it. Cannot fail if `h` is a complete header."""
        if self._shared is None or (
            (self.root_run_id is None and root.run is not None)
            or (self.user_id is None and h.user_id is not None)
            or (self.session_id is None and h.session_id is not None)
            or (self.conversation_id is None and h.conversation_id is not None)
            or (self.tenant_id is None and (h.tenant_id is not None or root.tenant is not None))
            or (self.app_id is None and (root.app or _of_the_root(h, h.app_id)) is not None)
            or (self.app_name is None and _of_the_root(h, h.app_name) is not None)
            or (self.workspace_name is None and h.workspace_name is not None)
            or (self.otel_trace_id is None and h.otel_trace_id is not None)
        ):
            self._learn(h, root)
        if not self.certain and shows_root(h, root):
            self.certain = True
        self.events += 1
        self.appended_at = appended_at
        self.touched = offset
        if h.revision > 0:
            self._revise(dedupe_hash(h.source_id), h.revision)

    def revise(self, h: Header, appended_at: int, offset: int) -> None:
        """Remembers a correction of an evaluation, which is no operation of the trace."""
        self.appended_at = appended_at
        self.touched = offset
        self._revise(dedupe_hash(h.source_id), h.revision)

    def _learn(self, h: Header, root: Root) -> None:
        if self.root_run_id is None and root.run is not None:
            self.root_run_id, self.root = (
                self.root_trace_id if root.run == self.root_trace_id else root.run,
                root.source,
            )
        self.otel_trace_id = self.otel_trace_id or h.otel_trace_id
        self.user_id = self.user_id if self.user_id is not None else h.user_id
        self.session_id = self.session_id if self.session_id is not None else h.session_id
        self.conversation_id = self.conversation_id if self.conversation_id is not None else h.conversation_id
        if self.tenant_id is None:
            tenant = h.tenant_id if h.tenant_id is not None else root.tenant
            self.tenant_id = None if tenant is None else _same[tenant]
        if self.app_id is None:
            app = root.app if root.app is not None else _of_the_root(h, h.app_id)
            self.app_id = None if app is None else _same[app]
        if self.app_name is None:
            app_name = _of_the_root(h, h.app_name)
            self.app_name = None if app_name is None else _same[app_name]
        self.workspace_name = self.workspace_name if self.workspace_name is not None else h.workspace_name
        self._shared = None

    def _revise(self, operation: bytes, revision: int) -> None:
        if self.revisions is None:
            self.revisions = {}
        if revision > self.revisions.get(operation, 0):
            self.revisions[operation] = revision
            if len(self.revisions) > MOST:
                del self.revisions[next(iter(self.revisions))]

    def superseded(self, h: Header) -> bool:
        """Whether a higher revision of the same operation came before.

        Only the latest `MOST` corrected operations are remembered.
        """
        return self.revisions is not None and h.revision < self.revisions.get(dedupe_hash(h.source_id), 0)

    def knows(self, run: bytes) -> bool:
        """Whether a link of `run` was written to the log. Only the latest runs are remembered."""
        return run == self.run or (self.runs is not None and run in self.runs)

    def learn(self, run: bytes) -> None:
        """Notes that a link of `run`, which is new to it, is in the log or about to be."""
        self._run_bytes += len(run)
        if self.run is None:
            self.run = run
            return
        if self.runs is None:
            self.runs = {}
        self.runs[run] = None
        while len(self.runs) >= MOST or self._run_bytes > MOST_RUN_BYTES:
            self._run_bytes -= len(self.run)
            self.run = next(iter(self.runs))
            del self.runs[self.run]

    def _runs(self) -> bytes:
        """All of them, encoded."""
        if self.run is None:
            return b"\0"
        return strings([self.run, *self.runs]) if self.runs else b"\2" + string(self.run) + b"\0"

    def name_datasets(self, ids: list[bytes], names: list[bytes]) -> None:
        """Learns names of datasets, for events that have only ids."""
        if self.datasets is None:
            self.datasets = {}
        for dataset, name in zip(ids, names, strict=False):
            if dataset not in self.datasets and len(self.datasets) < MOST_DATASETS:
                kept = sum(map(len, self.datasets)) + sum(map(len, self.datasets.values()))
                if kept + len(dataset) + len(name) <= MOST_DATASET_BYTES:
                    self.datasets[dataset] = name

    @property
    def ended(self) -> bool:
        """Whether the root has ended."""
        return self.operations.ended

    def remains(self) -> tuple[int, bytes | None, bool, bool]:
        """What is remembered when it has left the state: started_at, tenant_id, certain, start_unknown."""
        return self.started_at, self.tenant_id, self.certain, self.start_unknown

    def rest(self) -> None:
        """Frees memory, because no more events are expected. More events may still come."""
        self._shared = None
        self.operations.rest()

    def shared(self, correlation_id: bytes) -> bytes:
        """The end of every `TraceContext` of this trace, from run_trace_id on.

        Args:
            correlation_id: stands for the trace if there is neither a root run nor a trace id.
        """
        if self._shared is None:
            self._shared = shared_fields(self, correlation_id)
        return self._shared

    def summary(self, partition: int) -> bytes:
        """The trace's summary as of now (docs/summaries.md): a framed `TraceSummary`."""
        s = sum_up(self.operations)
        return b"".join(
            (
                _SUMMARY,
                string(self.root_trace_id or b""),
                zigzag(partition),
                zigzag(self.part),
                zigzag(self.events),
                _BOOL[s.complete],
                _BOOL[s.truncated],
                self.shared(b"")[:16],
                nullable(self.tenant_id),
                nullable(self.app_id),
                nullable(self.user_id),
                nullable(self.session_id),
                nullable(self.conversation_id),
                nullable(s.name if s.name is not None else self.app_name),
                nullable(s.status),
                zigzag(s.started_at),
                zigzag(s.ended_at),
                zigzag(s.duration),
                zigzag(len(s.counts)),
                *(_KIND[k] + zigzag(n) for k, n in s.counts.items()),
                b"\0",
                zigzag(s.errors),
                nullable(s.first_error),
                nullable(s.first_error_source_id),
                zigzag(min(s.input_tokens, LARGEST)),
                zigzag(min(s.output_tokens, LARGEST)),
                zigzag(min(s.total_tokens, LARGEST)),
                *(zigzag(min(n, LARGEST)) for n in s.classes),
                _costs(s.cost),
                _BOOL[s.cost_estimated],
                array(s.slowest),
                array(s.slowest_path),
            )
        )

    def pack(self) -> bytes:
        """The value in trace.state: a version byte and the Avro body of `TraceState`.

        Full chunks of operations are separate records.
        """
        ops = self.operations
        revisions = (
            b"".join(o + r.to_bytes(4, "big") for o, r in self.revisions.items()) if self.revisions else b""
        )
        fixed, texts = ops.tail()
        datasets = self.datasets
        return b"".join(
            (
                _VERSION,
                zigzag(self.appended_at),
                zigzag(self.touched),
                _BOOL[ops.ended],
                _BOOL[self.certain],
                _BOOL[self.start_unknown],
                self.shared(b"")[32:],
                _ROOT[self.root],
                b"\0" if self.otel_trace_id is None else b"\2" + self.otel_trace_id,
                zigzag(self.events),
                self._runs(),
                string(revisions),
                zigzag(self.part),
                zigzag(ops.chunks),
                strings(ops.currencies) if ops.currencies else b"\0",
                array([string(k) + string(v) for k, v in datasets.items()]) if datasets else b"\0",
                string(fixed),
                string(texts),
                b"\0" if ops.beyond is None else string(msgspec.json.encode(ops.beyond)),
            )
        )

    @classmethod
    def unpack(cls, value: bytes, chunks: list[tuple[bytes, bytes]] | None = None) -> Trace:
        """Decodes what `pack` wrote, in any version. Raises `DecodeError`.

        Args:
            chunks: the full chunks of its operations, in order.
        """
        state = wire.decode_versioned(value, TraceState)
        trace = cls(None, state.started_at, state.part)
        for name in _TEXTS:
            raw = getattr(state, name)
            setattr(trace, name, None if raw is None else raw.encode())
        trace.root = str(state.root)
        trace.otel_trace_id = state.otel_trace_id
        trace.appended_at, trace.touched = state.appended_at, state.touched
        trace.events, trace.certain, trace.start_unknown = state.events, state.certain, state.start_unknown
        for run in state.runs:
            trace.learn(run.encode())
        packed = state.revisions
        trace.revisions = {
            packed[p : p + 8]: int.from_bytes(packed[p + 8 : p + 12], "big")
            for p in range(0, len(packed), 12)
        } or None
        trace.datasets = {k.encode(): v.encode() for k, v in state.datasets.items()} or None
        having = chunks or []
        if len(having) != state.chunks:
            raise DecodeError("malformed", f"{len(having)} of {state.chunks} chunks of operations are there")
        try:
            beyond = msgspec.json.decode(state.beyond, type=OverflowTotals) if state.beyond else None
        except msgspec.DecodeError as e:
            raise DecodeError("malformed", f"beyond: {e}") from None
        trace.operations.restore(
            having,
            state.fixed,
            state.texts,
            [c.encode() for c in state.currencies] or None,
            beyond,
            state.ended,
        )
        return trace


class Stored:
    """A trace as a former owner wrote it, unpacked on first use.

    So taking over a million traces is quick.
    """

    __slots__ = ("_flags", "appended_at", "chunks", "ended", "touched", "value")

    def __init__(self, value: bytes) -> None:
        """Raises `DecodeError` for an unknown version, IndexError or ValueError for garbage."""
        if value[:1] != _VERSION:
            raise DecodeError("unknown_version", f"version {value[:1].hex() or 'none'} of a trace's state")
        self.value = value
        self.appended_at, p = varint(value, 1)
        self.touched, p = varint(value, p)
        self._flags = p
        self.ended = value[p] == 1
        self.chunks: list[tuple[int, bytes]] | None = None
        """Number and value of the full chunks of its operations."""

    def remains(self) -> tuple[int, bytes | None, bool, bool]:
        """As `Trace.remains`, without unpacking the rest. Raises IndexError or ValueError for garbage."""
        value = self.value
        p = _after_text(value, _after_text(value, self._flags + 3))  # root_trace_id, root_run_id
        started_at, p = varint(value, p)
        for _ in range(3):  # user_id, session_id, conversation_id
            p = _after_text(value, p)
        end = _after_text(value, p)
        tenant = None if value[p] == 0 else value[varint(value, p + 1)[1] : end]
        return started_at, tenant, value[self._flags + 1] == 1, value[self._flags + 2] == 1


def _after_text(value: bytes, p: int) -> int:
    """The position after a nullable string."""
    if value[p] == 0:
        return p + 1
    n, p = varint(value, p + 1)
    return p + n


_SUMMARY: Final = wire.frame_of("TraceSummary")
_BOOL: Final = (b"\0", b"\1")
_KIND: Final = {k: string(k.encode()) for k in KINDS}
_ROOT: Final = {str(s): zigzag(i) for i, s in enumerate(RootSource)}


def shared_fields(t: Trace, correlation_id: bytes) -> bytes:
    """The fields of `TraceContext` from run_trace_id to its end.

    Seed 003, section 5: the correlation id is the root run, else the run, else the trace id; sinks that
    root a trace at its message use the root's trace id. A native OpenTelemetry id overrides both.
    """
    message = t.root_trace_id or correlation_id
    run = t.root_run_id or message
    by_run = t.otel_trace_id or ids.otel_trace_id(run)
    by_message = t.otel_trace_id or (by_run if run == message else ids.otel_trace_id(message))
    return b"".join(
        (
            by_run,
            by_message,
            nullable(t.root_trace_id),
            nullable(t.root_run_id),
            zigzag(t.started_at),
            nullable(t.user_id),
            nullable(t.session_id),
            nullable(t.conversation_id),
            nullable(t.tenant_id),
            nullable(t.app_id),
            nullable(t.app_name),
            nullable(t.workspace_name),
        )
    )


def _costs(cost: dict[str, int]) -> bytes:
    """A map of decimal texts."""
    return array(
        [string(code.encode()) + string(decimal_text(amount).encode()) for code, amount in cost.items()]
    )
