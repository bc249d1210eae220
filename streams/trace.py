"""An open trace in memory, and its packed form in trace.state. What a trace's events share is encoded once and kept."""

from __future__ import annotations

from typing import Final

from streams.correlate import OWN, Root, shows_root
from streams.header import Header
from tailrace import ids
from tailrace.codec import wire
from tailrace.codec.encoder import zigzag
from tailrace.ids import dedupe_hash
from tailrace.records import RootSource, TraceState

_TEXTS: Final = (
    "root_trace_id",
    "root_run_id",
    "user_id",
    "session_id",
    "conversation_id",
    "app_id",
    "app_name",
    "workspace_name",
)
_VERSION: Final = bytes([1])
MOST: Final = 1000
"""Corrected operations, and nested runs, that a trace remembers: its state record stays small."""


def text(value: bytes | None) -> bytes:
    """A nullable Avro string."""
    return b"\0" if value is None else b"\2" + zigzag(len(value)) + value


def strings(values: list[bytes]) -> bytes:
    """An Avro array of strings."""
    return b"".join((zigzag(len(values)), *(zigzag(len(v)) + v for v in values), b"\0")) if values else b"\0"


def _of_the_root(h: Header, value: bytes | None) -> bytes | None:
    """`value`, unless the event is of a nested run: then its application is not the trace's."""
    return value if h.parent_run_id is None else None


class Trace:
    """What the processor knows of one open trace. Sticky fields keep the first non-null value in the log."""

    __slots__ = (
        "_shared", "app_id", "app_name", "appended_at", "certain", "conversation_id", "errors", "events", "first_started_at", "last_ended_at",
        "otel_trace_id", "revisions", "root", "root_run_id", "root_trace_id", "runs", "session_id", "started_at", "touched", "user_id", "workspace_name",
    )  # fmt: skip

    def __init__(self, root_trace_id: bytes | None, started_at: int) -> None:
        self.root_trace_id = root_trace_id
        self.started_at = self.first_started_at = started_at
        self.last_ended_at = started_at
        self.appended_at = 0
        self.touched = -1
        self.root: str = RootSource.OWN.value
        self.root_run_id: bytes | None = None
        self.otel_trace_id: bytes | None = None
        self.user_id: bytes | None = None
        self.session_id: bytes | None = None
        self.conversation_id: bytes | None = None
        self.app_id: bytes | None = None
        self.app_name: bytes | None = None
        self.workspace_name: bytes | None = None
        self.events = self.errors = 0
        self.certain = False
        self.runs: dict[bytes, None] = {}
        self.revisions: dict[bytes, int] = {}
        self._shared: bytes | None = None

    def add(self, h: Header, root: Root, appended_at: int, offset: int) -> None:
        """Counts one event and learns from it. Cannot fail once `h` is a whole header."""
        if self._shared is None or (
            (self.root_run_id is None and root.run is not None)
            or (self.user_id is None and h.user_id is not None)
            or (self.session_id is None and h.session_id is not None)
            or (self.conversation_id is None and h.conversation_id is not None)
            or (self.app_id is None and (root.app or _of_the_root(h, h.app_id)) is not None)
            or (self.app_name is None and _of_the_root(h, h.app_name) is not None)
            or (self.workspace_name is None and h.workspace_name is not None)
            or (self.otel_trace_id is None and h.otel_trace_id is not None)
        ):
            self._learn(h, root)
        if not self.certain and root.source == OWN and shows_root(h):
            self.certain = True
        self.events += 1
        if h.error is not None:
            self.errors += 1
        if h.started_at < self.first_started_at:
            self.first_started_at = h.started_at
        if h.ended_at > self.last_ended_at:
            self.last_ended_at = h.ended_at
        self.appended_at = appended_at
        self.touched = offset
        if h.revision > 0:
            self._revise(dedupe_hash(h.source_id), h.revision)

    def _learn(self, h: Header, root: Root) -> None:
        if self.root_run_id is None and root.run is not None:
            self.root_run_id, self.root = root.run, root.source
        self.otel_trace_id = self.otel_trace_id or h.otel_trace_id
        self.user_id = self.user_id if self.user_id is not None else h.user_id
        self.session_id = self.session_id if self.session_id is not None else h.session_id
        self.conversation_id = self.conversation_id if self.conversation_id is not None else h.conversation_id
        if self.app_id is None:
            self.app_id = root.app if root.app is not None else _of_the_root(h, h.app_id)
        if self.app_name is None:
            self.app_name = _of_the_root(h, h.app_name)
        self.workspace_name = self.workspace_name if self.workspace_name is not None else h.workspace_name
        self._shared = None

    def _revise(self, operation: bytes, revision: int) -> None:
        if revision > self.revisions.get(operation, 0):
            self.revisions[operation] = revision
            if len(self.revisions) > MOST:
                del self.revisions[next(iter(self.revisions))]

    def superseded(self, h: Header) -> bool:
        """Whether a higher revision of the same operation went before; of more than `MOST` corrected operations the latest are
        remembered."""
        return bool(self.revisions) and h.revision < self.revisions.get(dedupe_hash(h.source_id), 0)

    def knows(self, run: bytes) -> bool:
        """Whether a link of `run` is in the log; asked once a run, True from then on."""
        if run in self.runs:
            return True
        self.runs[run] = None
        if len(self.runs) > MOST:
            del self.runs[next(iter(self.runs))]
        return False

    def shared(self, correlation_id: bytes) -> bytes:
        """The end of every `TraceContext` of this trace, from run_trace_id on. correlation_id: what stands for the trace
        where there is neither a root run nor a trace id."""
        if self._shared is None:
            self._shared = shared_fields(self, correlation_id)
        return self._shared

    def pack(self) -> bytes:
        """The value of trace.state: a version byte and the Avro body of `TraceState`."""
        revisions = b"".join(k + v.to_bytes(4, "big") for k, v in self.revisions.items())
        return b"".join(
            (
                _VERSION, text(self.root_trace_id), text(self.root_run_id), _ROOT[self.root], zigzag(self.started_at),
                zigzag(self.first_started_at), zigzag(self.last_ended_at), zigzag(self.appended_at), zigzag(self.touched), text(self.user_id),
                text(self.session_id), text(self.conversation_id), text(self.app_id), text(self.app_name), text(self.workspace_name),
                b"\0" if self.otel_trace_id is None else b"\2" + self.otel_trace_id, zigzag(self.events), zigzag(self.errors),
                b"\1" if self.certain else b"\0", strings(list(self.runs)), zigzag(len(revisions)), revisions,
            )
        )  # fmt: skip

    @classmethod
    def unpack(cls, value: bytes) -> Trace:
        """What `pack` wrote, in any version. Raises `DecodeError`."""
        state = wire.decode_versioned(value, TraceState)
        trace = cls(None, state.started_at)
        for name in _TEXTS:
            raw = getattr(state, name)
            setattr(trace, name, None if raw is None else raw.encode())
        trace.root = str(state.root)
        trace.otel_trace_id = state.otel_trace_id
        trace.first_started_at, trace.last_ended_at, trace.appended_at = (
            state.first_started_at,
            state.last_ended_at,
            state.appended_at,
        )
        trace.touched = state.touched
        trace.events, trace.errors = state.events, state.errors
        trace.certain, trace.runs = state.certain, dict.fromkeys(r.encode() for r in state.runs)
        packed = state.revisions
        trace.revisions = {
            packed[p : p + 8]: int.from_bytes(packed[p + 8 : p + 12], "big") for p in range(0, len(packed), 12)
        }
        return trace


_ROOT: Final = {str(s): zigzag(i) for i, s in enumerate(RootSource)}


def shared_fields(t: Trace, correlation_id: bytes) -> bytes:
    """`TraceContext` from run_trace_id to its end. Seed 003, section 5: the correlation id is the root run, else the run, else
    the trace id; sinks that root a trace at its message use the root's trace id. A native OpenTelemetry id wins over both."""
    by_run = t.otel_trace_id or ids.otel_trace_id(t.root_run_id or t.root_trace_id or correlation_id)
    by_message = t.otel_trace_id or ids.otel_trace_id(t.root_trace_id or correlation_id)
    return b"".join(
        (
            by_run, by_message, text(t.root_trace_id), text(t.root_run_id), zigzag(t.started_at), text(t.user_id), text(t.session_id),
            text(t.conversation_id), text(t.app_id), text(t.app_name), text(t.workspace_name),
        )
    )  # fmt: skip
