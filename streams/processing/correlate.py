"""An event's structural parent and root, and what is odd about its times. Pure functions over headers.

The rules are those of seed 003, section 5 (scenarios A to C). The parent is the operation that contains
the event (parent_id), else the node or run that called it, else the workflow run for nodes or the
message for side operations. It is never a conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from streams.processing.header import Header
from tailrace.kinds import AFTER, ALONE, APART, CALLED, IN_RUN, OWN_TRACE, PARENT
from tailrace.records import EvaluationTarget, RootSource

HOUR: Final = 3_600_000_000
"""Microseconds that a start may lie after the record's append time before it is marked."""

CLOCK_SKEW: Final = b"clock_skew"
NEGATIVE_DURATION: Final = b"negative_duration"
SELF_PARENT: Final = b"self_parent"
SUPERSEDED: Final = b"superseded"
ROOT_INFERRED: Final = b"root_inferred"
RUN_SPLIT: Final = b"run_split"
START_UNKNOWN: Final = b"start_unknown"
TOKEN_CLASSES_IGNORED: Final = b"token_classes_ignored"

OWN, HEADER, LINK, INFERRED = (
    str(s) for s in (RootSource.OWN, RootSource.HEADER, RootSource.LINK, RootSource.INFERRED)
)

_PARENT: Final[dict[str, str]] = dict(PARENT)
_OWN_TRACE: Final = OWN_TRACE
_AFTER: Final = AFTER
_APART: Final = APART
_WHOLE_TRACE, _SESSION = str(EvaluationTarget.TRACE), str(EvaluationTarget.SESSION)

Parent = tuple[bytes | None, str]
"""source_id of the parent, and its kind: none, operation, run, node or message (`ParentKind`)."""

NONE: Final[Parent] = (None, "none")
CUT: Final[Parent] = (None, "cut")
"""For an event that names itself as its parent: it has none. Not a `ParentKind`."""


def parent_of(h: Header) -> Parent:
    """The structural parent of an event, or `CUT` if the event names itself as its parent."""
    parent = _declared(h)
    return CUT if parent[0] == h.source_id else parent


def _declared(h: Header) -> Parent:
    if h.parent_id is not None or h.otel_parent_span_id is not None:
        about = h.evaluation_target
        if about is not None and about in (_WHOLE_TRACE, _SESSION) and h.kind in _APART:
            return NONE
        return h.parent_id, "operation"
    rule = _PARENT[h.kind]
    if rule == IN_RUN:
        if h.workflow_run_id is not None:
            return h.workflow_run_id, "run"
    elif rule == CALLED:
        if h.parent_node_execution_id is not None:
            return h.parent_node_execution_id, "node"
        if h.parent_run_id is not None:
            return h.parent_run_id, "run"
    elif rule == ALONE:
        return NONE
    elif h.message_id is None and h.workflow_run_id is not None:
        return h.workflow_run_id, "run"
    return (h.message_id, "message") if h.message_id is not None else NONE


def marks_of(h: Header, appended_at: int) -> tuple[bytes, ...]:
    """Marks for what is odd about an event's times. Nothing is corrected: sinks read the marks.

    Args:
        appended_at: milliseconds UTC.
    """
    if h.ended_at >= h.started_at and h.started_at - appended_at * 1000 <= HOUR:
        return ()
    found = []
    if h.started_at - appended_at * 1000 > HOUR:
        found.append(CLOCK_SKEW)
    if h.ended_at < h.started_at:
        found.append(NEGATIVE_DURATION)
    return tuple(found)


class Root:
    """The outermost operation that an event belongs to, as far as it is known."""

    __slots__ = ("app", "run", "source", "split", "started_at", "tenant", "trace")

    def __init__(
        self,
        trace: bytes | None,
        run: bytes | None,
        started_at: int | None,
        app: bytes | None,
        source: str,
        tenant: bytes | None = None,
        split: bool = False,
    ) -> None:
        self.trace = trace
        """Its trace id; None for events without a trace."""
        self.run = run
        """Its workflow run, if one is known."""
        self.started_at = started_at
        """Its start in microseconds UTC, if known."""
        self.app = app
        self.source = source
        """How the root is known: own, header, link or inferred (`RootSource`)."""
        self.tenant = tenant
        """The root's tenant, if a link says it."""
        self.split = split
        """As `Link.split`."""


class Link:
    """States that a run belongs to a root.

    It is a record in the log, written by a publisher or by a partition's owner.
    """

    __slots__ = ("app", "run", "split", "started_at", "tenant", "trace")

    def __init__(
        self,
        trace: bytes,
        run: bytes | None,
        started_at: int | None,
        app: bytes | None,
        tenant: bytes | None = None,
        split: bool = False,
    ) -> None:
        self.trace, self.run, self.started_at, self.app, self.tenant = trace, run, started_at, app, tenant
        self.split = split
        """Whether events of the run came before it, and named no caller: they are a trace of their own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and (
            self.trace,
            self.run,
            self.started_at,
            self.app,
            self.tenant,
            self.split,
        ) == (other.trace, other.run, other.started_at, other.app, other.tenant, other.split)

    def __hash__(self) -> int:
        return hash((self.trace, self.run))

    def __repr__(self) -> str:
        of = f"{self.trace!r}, {self.run!r}, {self.started_at}, {self.app!r}, {self.tenant!r}"
        return f"Link({of}, {self.split})"


def link_of(h: Header) -> Link | None:
    """The link in a link record; None if it makes a run its own root or names none."""
    trace = h.root_trace_id or h.root_run_id
    return (
        None
        if trace is None or trace == h.source_id
        else Link(trace, h.root_run_id, h.root_started_at, h.root_app_id, h.tenant_id)
    )


class LinkTable(Protocol):
    """Links of runs. The same run in two tenants is two runs."""

    def find(self, run: bytes, tenant: bytes | None) -> Link | None:
        """The link of a run, in a tenant if that is known."""
        ...


def root_of(h: Header, links: LinkTable, is_root: Callable[[bytes, bytes | None], bool]) -> Root:
    """The root of an event (seed 003, scenario B, at any depth).

    The header wins. Next is a link of the calling run, or of the event's own run. Next is the calling
    run itself: this is right at depth 1, and marked as inferred unless `is_root` knows that this run of
    the event's tenant has no caller. Otherwise it is the event's own trace, which is all that a draft
    has. A link names its root directly and links are not followed, so a cycle of links ends at its first
    step. The start and the application that the header states of the root count, however the root itself
    is known. The evaluation of a session has none, whatever it names.
    """
    if h.evaluation_target is not None and h.evaluation_target == _SESSION and h.kind in _APART:
        return Root(None, None, None, None, OWN)
    if h.root_trace_id is not None or h.root_run_id is not None:
        return Root(h.root_trace_id or h.root_run_id, h.root_run_id, h.root_started_at, h.root_app_id, HEADER)
    if h.kind in _OWN_TRACE:
        return Root(h.trace_id, None, None, None, OWN)
    parent, own, tenant = h.parent_run_id, h.workflow_run_id, h.tenant_id
    started_at, app = h.root_started_at, h.root_app_id
    link = None if parent is None else links.find(parent, tenant)
    if link is None and own is not None:
        link = links.find(own, tenant)
    if link is not None:
        return Root(
            link.trace,
            link.run,
            link.started_at if started_at is None else started_at,
            link.app if app is None else app,
            LINK,
            link.tenant,
            link.split,
        )
    if parent is not None and parent != own:
        return Root(parent, parent, started_at, app, OWN if is_root(parent, tenant) else INFERRED)
    return Root(h.trace_id, own, started_at, app, OWN)


def start_of(h: Header, root: Root) -> int | None:
    """The start of the event's trace, if the event states it: it names it, or is the root itself."""
    if root.started_at is not None:
        return root.started_at
    return h.started_at if h.source_id == root.trace and h.kind not in _AFTER else None


def start_unknown(h: Header, root: Root, before_ms: int) -> bool:
    """Whether an event's trace, of which no start is remembered, may have had another start before.

    That is so for what comes after its trace (a rating), and if starts were forgotten, unless the event
    shows that its trace began later than those.

    Args:
        before_ms: traces that left the state until then may be forgotten; 0: none is.
    """
    stated = start_of(h, root)
    if stated is None:
        return before_ms > 0 or h.kind in _AFTER
    return before_ms > 0 and stated <= before_ms * 1000


def run_to_link(h: Header, root: Root) -> bytes | None:
    """The event's run, if nested runs that arrive in other partitions must learn its root; else None.

    That is any run that is not the root's own key and whose root is certain. Drafts never give one.
    """
    run = h.workflow_run_id
    if run is None or root.trace is None or run == root.trace or root.source == INFERRED:
        return None
    if h.kind in _OWN_TRACE:
        return None
    return run


def shows_root(h: Header, root: Root) -> bool:
    """Whether an event shows that its trace is that of a run with neither a caller nor a message above it.

    That is so if it belongs to that run and names no caller, or if a header or link names the run as
    root.
    """
    if root.source == OWN:
        return h.parent_run_id is None and h.workflow_run_id is not None and h.trace_id == h.workflow_run_id
    return root.source != INFERRED and root.trace is not None and root.trace in (root.run, h.workflow_run_id)
