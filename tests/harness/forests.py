"""Forests of traces as plain data, the events that publish them, and the contexts that must result.

A forest is drawn by hypothesis as small numbers and flags. `planned` makes events of it and, from the same
numbers and not from the events, the true parent and root of each. `Fold` goes over what arrived in one
partition and says what the context of each record must be. It is written from docs/seeds.md and the
schemas, without looking at the processor's code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from tailrace.identity import complete, kafka_key
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.partitioner import partition_of
from tailrace.records import (
    DatasetRetrieval,
    Feedback,
    Kind,
    Message,
    Moderation,
    NodeExecution,
    Tool,
    TraceContext,
    TraceEvent,
    WorkflowRun,
)
from tests.harness.recount_events import amount_of, calls_a_model

DEEPEST: Final = 6
"""Nested runs inside each other."""
HOUR: Final = 3_600_000_000
"""Microseconds."""


# -- plain data
class Op(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """One operation. The defaults are what hypothesis shrinks to."""

    type: str = "code"
    """node_type of a node, kind of a side operation."""
    inside: int = 0
    """For a node: which of the containers before it contains it, counted back from 1. 0: none."""
    header: bool = False
    """Whether its event names the root."""
    copies: int = 1
    """How often it is published. 0: its publisher died."""
    corrected: bool = False
    """Whether revision 1 is published too."""
    usage: int = 0
    outcome: int = 0


class Run(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    back: int = 1
    """Its caller is so many runs before it. Without meaning for the first run."""
    call: Op = Op()
    """The caller's tool node that calls it."""
    own: Op = Op()
    nodes: tuple[Op, ...] = ()
    header: bool = False
    """Whether all of its events name the root."""
    linked: bool = False
    """Whether its publisher sends a link to its root when it starts."""
    silent: bool = False
    """Nothing of it is published, except for its link."""
    names_node: bool = True
    """Whether it knows which node called it, or only which run."""


class Tree(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    shape: str = "workflow"
    """workflow, chatflow (a message and its run), chat (a message alone), or draft (one execution)."""
    runs: tuple[Run, ...] = (Run(),)
    message: Op = Op()
    names_run: bool = False
    """Whether the message's event names its run."""
    sides: tuple[Op, ...] = ()
    brief: bool = False
    """For a workflow: whether links and headers name only the root's run."""


class Forest(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    trees: tuple[Tree, ...]
    salt: int = 0
    """Changes the ids, and so the partitions."""
    alike: bool = False
    """Whether the nodes of different trees have the same ids."""


TYPES: Final = ("code", "llm", "iteration", "tool", "loop")
SIDES: Final = (Kind.TOOL, Kind.MODERATION, Kind.DATASET_RETRIEVAL, Kind.FEEDBACK)
_MODEL: Final = {"model_provider": "langgenius/openai/openai", "model_name": "gpt-4o-mini"}
USAGES: Final[tuple[dict[str, Any], ...]] = (
    {},
    {**_MODEL, "input_tokens": 100, "output_tokens": 20},
    {
        **_MODEL,
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "total_price": "0.0125",
        "currency": "USD",
    },
    {"total_tokens": 400, "total_price": "1.5", "currency": "RMB"},
    {**_MODEL, "input_tokens": -1, "output_tokens": 3, "total_tokens": 0},
    {**_MODEL, "model_name": "model-of-our-own", "input_tokens": 9, "output_tokens": 9},
    {**_MODEL, "input_tokens": 50, "output_tokens": 50, "total_price": "n/a"},
    {**_MODEL, "input_tokens": 60, "output_tokens": 40, "total_price": "0.0", "currency": "USD"},
)
LISTED: Final = "gpt-4o-mini"
"""The only model above that the price table has."""
OUTCOMES: Final[tuple[dict[str, Any], ...]] = (
    {"status": "succeeded"},
    {"status": "failed", "error": "it broke: Zeitüberschreitung"},
    {"status": "failed"},
    {"status": "exception", "error": "it broke, and went on"},
    {},
    {"status": "succeeded", "backwards": True},
    {"status": "succeeded", "ahead": True},
    {"status": "succeeded", "own_parent": True},
)

_seldom: Final = st.sampled_from((*(False,) * 7, True))
ops: Final = st.builds(
    Op,
    type=st.sampled_from(TYPES),
    inside=st.integers(0, 2),
    header=_seldom,
    copies=st.sampled_from((*(1,) * 10, 2, 2, 0)),
    corrected=_seldom,
    usage=st.integers(0, len(USAGES) - 1),
    outcome=st.sampled_from((0, 0, 0, 0, *range(1, len(OUTCOMES)))),
)
sides: Final = st.builds(
    lambda op, kind: msgspec.structs.replace(op, type=kind.value), ops, st.sampled_from(SIDES)
)
runs: Final = st.builds(
    Run,
    back=st.sampled_from((1, 1, 1, 1, 2, 3)),
    call=ops,
    own=ops,
    nodes=st.lists(ops, max_size=2).map(tuple),
    header=_seldom,
    linked=_seldom,
    silent=_seldom,
    names_node=st.sampled_from((True, True, True, False)),
)
trees: Final = st.builds(
    Tree,
    shape=st.sampled_from(("workflow", "chatflow", "workflow", "chatflow", "chat", "draft")),
    runs=st.lists(runs, min_size=1, max_size=DEEPEST + 4).map(tuple),
    message=ops,
    names_run=st.booleans(),
    sides=st.lists(sides, max_size=2).map(tuple),
    brief=_seldom,
)
forests: Final = st.builds(
    Forest, trees=st.lists(trees, min_size=1, max_size=4).map(tuple), salt=st.integers(0, 1000), alike=_seldom
)


class Tape:
    """A sequence of choices that starts again at its end.

    All zeros is the plainest one, to which hypothesis shrinks.
    """

    def __init__(self, choices: bytes) -> None:
        self._choices, self._at = choices, 0

    def below(self, most: int) -> int:
        self._at += 1
        return self._choices[self._at % len(self._choices)] % most if self._choices else 0

    def chance(self, of: int) -> bool:
        """True once in `of` times."""
        return self.below(of) == of - 1


tapes: Final = st.binary(min_size=64, max_size=64)


# -- the truth, and the events
class Truth(NamedTuple):
    """An operation's true place in its forest."""

    trace: str
    """Trace of its root."""
    run: str | None
    """Run of its root."""
    app: str
    """Application of its root."""
    path: tuple[str, ...]
    """source_ids from its parent up to the root."""
    parent_kind: str
    own_parent: bool
    """Whether it says that it contains itself."""
    whole: bool
    """Whether everything above it is published."""


class Planned(NamedTuple):
    """An event to be published."""

    event: TraceEvent
    truth: Truth | None
    """None: a link."""


class _Above(NamedTuple):
    """An operation that has children."""

    path: tuple[str, ...]
    """Its own source_id and those above it."""
    whole: bool
    """Whether it and everything above it is published."""


_NOTHING: Final = _Above((), True)


def _published(op: Op, silent: bool = False) -> bool:
    return not silent and (op.copies > 0 or op.corrected)


class _Maker:
    """Makes the events of one tree."""

    def __init__(self, forest: Forest, number: int, now: int) -> None:
        self.tree, self.number = forest.trees[number], number
        self.salt, self.alike = forest.salt, forest.alike
        self.now = now + number * 10_000_000
        self.step = 0
        self.app = f"app-{number}"
        talks = self.tree.shape in ("chatflow", "chat")
        self.message = self.id(0) if talks else None
        self.root_run = self.id(1) if self.tree.shape in ("chatflow", "workflow") else None
        self.trace = self.message or self.root_run or self.id(0)

    def id(self, n: int) -> str:
        return f"{self.salt:08x}-{self.number:04x}-4000-8000-{n:012x}"

    def roots(self) -> dict[str, Any]:
        """What a header or a link says about the root."""
        said: dict[str, Any] = {"root_run_id": self.root_run, "root_app_id": self.app}
        brief = self.tree.brief and self.message is None
        return said if brief else said | {"root_trace_id": self.trace, "root_started_at": self.now}

    def operation(
        self,
        kind: Kind,
        op: Op,
        source: str,
        above: _Above,
        parent_kind: str,
        silent: bool = False,
        **fields: Any,
    ) -> tuple[list[Planned], _Above]:
        """The events of an operation, and the operation as a parent."""
        self.step += 1
        outcome = dict(OUTCOMES[op.outcome])
        begin = self.now + self.step * 20_000 + (2 * HOUR if outcome.pop("ahead", False) else 0)
        took = 1000 * (op.usage + 1)
        end = begin - took if outcome.pop("backwards", False) else begin + took
        own_parent = outcome.pop("own_parent", False)
        if own_parent:
            fields["parent_id"] = source
            above, parent_kind = _NOTHING, "none"
        usage = USAGES[op.usage]
        if kind in SIDES:
            usage = {"total_tokens": 5} if usage and kind == Kind.DATASET_RETRIEVAL else {}
        if op.header and kind != Kind.DRAFT_NODE_EXECUTION:
            fields |= self.roots()
        said: dict[str, Any] = {
            "kind": kind,
            "source_id": source,
            "started_at": begin,
            "ended_at": end,
            "tenant_id": "tenant",
            "name": f"{kind} {self.step}",
            "invoke_from": "api",
            **usage,
            **outcome,
            **fields,
        }
        if self.step % 2:
            said["user_id"] = f"user-{self.step}"
        event = TraceEvent(**said)
        events = [event] * op.copies
        if op.corrected:
            events.append(
                msgspec.structs.replace(event, revision=1, status="succeeded", error=None, total_tokens=33)
            )
        marked = own_parent and kind != Kind.DRAFT_NODE_EXECUTION  # a draft has no parent, whatever it says
        truth = Truth(self.trace, self.root_run, self.app, above.path, parent_kind, marked, above.whole)
        made = [] if silent else [Planned(self.completed(e), truth) for e in events]
        return made, _Above((source, *above.path), above.whole and _published(op, silent))

    def completed(self, event: TraceEvent) -> TraceEvent:
        """As its publisher completes it, with its price as it is: another producer may write any text."""
        done = complete(msgspec.structs.replace(event, total_price=None), self.now)
        return msgspec.structs.replace(done, total_price=event.total_price)

    def run(self, n: int, parent: _Above, parent_kind: str, **fields: Any) -> list[Planned]:
        """The n-th run, in the order in which an engine ends things.

        A run that is called comes before its caller.
        """
        run, depths = self.tree.runs[n], self.callers()
        run_id = self.id(n + 1)
        app = self.app if n == 0 else f"{self.app}-{n}"
        fields |= {"workflow_run_id": run_id, "app_id": app, "app_name": f"App {app}"}
        if run.header:
            fields |= self.roots()
        made: list[Planned] = []
        if run.linked and run_id != self.trace:
            link = TraceEvent(
                kind=Kind.LINK, source_id=run_id, started_at=self.now, ended_at=self.now, **self.roots()
            )
            made.append(Planned(complete(link, self.now), None))
        own_events, own = self.operation(
            Kind.WORKFLOW_RUN,
            run.own,
            run_id,
            parent,
            parent_kind,
            run.silent,
            workflow_run=WorkflowRun(workflow_id="w"),
            **fields,
        )

        containers: list[_Above] = []
        late: list[Planned] = []

        def node(op: Op, source: str) -> tuple[list[Planned], _Above]:
            more: dict[str, Any] = {"node_execution": NodeExecution(node_id=source), "node_type": op.type}
            above, kind = own, "run"
            if op.inside and containers:
                above, kind = containers[-1 - (op.inside - 1) % len(containers)], "operation"
                more["parent_id"] = above.path[0]
            return self.operation(Kind.NODE_EXECUTION, op, source, above, kind, run.silent, **fields, **more)

        for i, op in enumerate(run.nodes):
            events, this = node(op, self.node_id(n, i))
            if op.type in ("iteration", "loop"):
                containers.append(this)
                late += events
            else:
                made += events
        for m, (caller, _) in enumerate(depths):
            if m and caller == n:
                inner = self.tree.runs[m]
                source = self.node_id(n, 1000 + m)
                events, this = node(msgspec.structs.replace(inner.call, type="tool"), source)
                known: dict[str, Any] = {"parent_run_id": run_id, "parent_app_id": app}
                if inner.names_node:
                    known["parent_node_execution_id"] = source
                made += self.run(
                    m, this if inner.names_node else own, "node" if inner.names_node else "run", **known
                )
                made += events
        return made + late + own_events

    def node_id(self, n: int, i: int) -> str:
        return f"node-{n}-{i}" if self.alike else f"{self.id(n + 1)}/{i}"

    def callers(self) -> list[tuple[int, int]]:
        """The caller and the depth of each run."""
        found = [(0, 0)]
        for n, run in enumerate(self.tree.runs[1:], 1):
            caller = max(0, n - run.back)
            while found[caller][1] >= DEEPEST:
                caller = found[caller][0]
            found.append((caller, found[caller][1] + 1))
        return found

    def events(self) -> list[Planned]:
        tree = self.tree
        shared: dict[str, Any] = {"app_id": self.app, "app_name": f"App {self.app}"}
        if tree.shape == "workflow":
            return self.run(0, _NOTHING, "none")
        if tree.shape == "draft":
            more: dict[str, Any] = {"workflow_run_id": self.id(1)} if tree.names_run else {}
            made, _ = self.operation(
                Kind.DRAFT_NODE_EXECUTION,
                tree.message,
                self.trace,
                _NOTHING,
                "none",
                node_execution=NodeExecution(node_id="n"),
                node_type="llm",
                **shared,
                **more,
            )
            return made
        of_turn = shared | {"message_id": self.message, "conversation_id": f"conversation-{self.number}"}
        more = {"workflow_run_id": self.root_run} if tree.names_run else {}
        last, message = self.operation(
            Kind.MESSAGE,
            tree.message,
            self.trace,
            _NOTHING,
            "none",
            message=Message(),
            **of_turn,
            **more,
        )
        made = []
        if tree.shape == "chatflow":
            of_run = {name: of_turn[name] for name in ("message_id", "conversation_id")}
            made += self.run(0, message, "message", **of_run)
        bodies: dict[str, dict[str, Any]] = {
            "tool": {"tool": Tool(call_id="1"), "tool_name": "search"},
            "moderation": {"moderation": Moderation(action="pass")},
            "dataset_retrieval": {
                "dataset_retrieval": DatasetRetrieval(query="q"),
                "dataset_ids": ["d1", "d2"],
            },
            "feedback": {"feedback": Feedback(feedback_id="f"), "rating": "like"},
        }
        for i, op in enumerate(tree.sides):
            source = self.id(5000 + i)
            body = bodies[op.type]
            made += self.operation(Kind(op.type), op, source, message, "message", **of_turn, **body)[0]
        return made + last


def planned(forest: Forest, now: int) -> list[Planned]:
    """All events of a forest in the order of publishing, tree by tree.

    Args:
        forest: the forest.
        now: microseconds UTC.
    """
    return [p for n in range(len(forest.trees)) for p in _Maker(forest, n, now).events()]


def key_of(event: TraceEvent) -> bytes:
    return (kafka_key(event) or "").encode()


# -- the contexts that must result
class Expected(NamedTuple):
    """A record's context, as far as it is about trees and ids."""

    source_id: str
    span_id: bytes
    parent_source_id: str | None
    parent_span_id: bytes | None
    parent_kind: str
    marks: tuple[str, ...]
    """Sorted."""
    linked_span_id: bytes | None
    run_trace_id: bytes
    message_trace_id: bytes
    root_trace_id: str
    root_run_id: str | None
    trace_started_at: int
    app_id: str | None


def shown(event: TraceEvent, context: TraceContext) -> Expected:
    """A context in the shape of Expected."""
    values = {name: getattr(context, name) for name in Expected._fields[1:]}
    marks, kind = tuple(sorted(context.marks)), str(context.parent_kind)
    return Expected(source_id=event.source_id or "", **(values | {"marks": marks, "parent_kind": kind}))


def names_root(event: TraceEvent) -> bool:
    return event.root_trace_id is not None or event.root_run_id is not None


class Fold:
    """One partition's records in their order, without misrouted ones."""

    def __init__(self) -> None:
        self.links: dict[str, TraceEvent] = {}
        self.roots: set[str] = set()
        """Runs of which an event or a link has shown that they have no caller."""
        self.runs: dict[str, str] = {}
        """Trace -> the root's run, once an event has named it."""
        self.apps: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self.begun: set[str] = set()
        """Traces of which there was more than ratings that do not say when it began."""
        self.revisions: dict[tuple[str, str], int] = {}
        self.seen: set[tuple[str | None, str | None]] = set()
        self.split: set[str] = set()
        """Runs that a link gave a root after events had shown them to be roots."""

    def knows_root(self, event: TraceEvent) -> bool:
        """Whether the records before it tell the root of an event."""
        caller, own = event.parent_run_id, event.workflow_run_id
        return (
            names_root(event)
            or caller is None
            or caller in self.links
            or own in self.links
            or caller in self.roots
        )

    def take(self, event: TraceEvent, truth: Truth | None, appended_at_ms: int) -> Expected | None:
        """Takes the next record. None: nothing is written for it."""
        if event.kind == Kind.LINK:
            inner = event.source_id or ""
            if inner in self.roots and inner not in self.links:
                self.split.add(inner)
            self.links.setdefault(inner, event)
            return None
        if (event.tenant_id, event.event_id) in self.seen:
            return None
        self.seen.add((event.tenant_id, event.event_id))
        assert truth is not None
        known, source = self.knows_root(event), event.source_id or ""
        said = event if names_root(event) else self._link(event)
        if known:
            trace, run, app = truth.trace, truth.run, truth.app
            names_run = bool(event.parent_run_id or event.workflow_run_id or event.root_run_id or said)
            if trace == run:
                self.roots.add(run)
        else:
            trace = event.parent_run_id or ""
            run, app, names_run = trace, None, True
        if run is not None and names_run:
            self.runs.setdefault(trace, run)
        if app is not None:
            self.apps.setdefault(trace, app)
        named = event.root_started_at
        if named is None and said is not None:
            named = said.root_started_at
        start = self.starts.setdefault(trace, event.started_at if named is None else named)
        if event.kind != Kind.FEEDBACK or named is not None:
            self.begun.add(trace)
        before = self.revisions.get((trace, source), 0)
        self.revisions[trace, source] = max(before, event.revision)
        marks = {
            "clock_skew": event.started_at - appended_at_ms * 1000 > HOUR,
            "negative_duration": event.ended_at < event.started_at,
            "price_unusable": event.total_price is not None and amount_of(event.total_price) is None,
            "price_zero": amount_of(event.total_price) == 0
            and event.model_name == LISTED
            and calls_a_model(event),
            "root_inferred": not known,
            "run_split": said is not None and said.source_id in self.split and said is not event,
            "self_parent": truth.own_parent,
            "start_unknown": trace not in self.begun,
            "superseded": event.revision < before,
        }
        parent = truth.path[0] if truth.path else None
        return Expected(
            source_id=source,
            span_id=otel_span_id(source),
            parent_source_id=parent,
            parent_span_id=None if parent is None else otel_span_id(parent),
            parent_kind=truth.parent_kind,
            marks=tuple(name for name, there in marks.items() if there),
            linked_span_id=None if known else otel_span_id(trace),
            run_trace_id=self.run_trace_id(trace),
            message_trace_id=otel_trace_id(trace),
            root_trace_id=trace,
            root_run_id=self.runs.get(trace),
            trace_started_at=start,
            app_id=self.apps.get(trace),
        )

    def _link(self, event: TraceEvent) -> TraceEvent | None:
        if event.kind == Kind.DRAFT_NODE_EXECUTION:
            return None
        found = (self.links.get(r) for r in (event.parent_run_id, event.workflow_run_id) if r is not None)
        return next(filter(None, found), None)

    def run_trace_id(self, trace: str) -> bytes:
        """The id of the root's run once it is known, the trace's id before."""
        return otel_trace_id(self.runs.get(trace, trace))


def resolvable(events: Iterable[Planned], partitions: int) -> list[bool]:
    """For each event, whether its root can be known if it waits for long enough.

    That depends on what is published of the runs above it, links included, in any partition.
    """
    found = list(events)
    linked: set[str | None] = {p.event.source_id for p in found if p.truth is None}
    roots: set[tuple[str | None, int]] = set()
    done = [p.truth is None for p in found]
    places = [partition_of(key_of(p.event), partitions) for p in found]
    before = -1
    while before < sum(done):
        before = sum(done)
        for i, (event, truth) in enumerate(found):
            if truth is None or done[i]:
                continue
            caller, own, place = event.parent_run_id, event.workflow_run_id, places[i]
            near = own in linked and partition_of((own or "").encode(), partitions) == place
            if names_root(event) or caller is None or caller in linked or near or (caller, place) in roots:
                done[i] = True
                if truth.run == truth.trace:
                    roots.add((truth.run, place))
                if own is not None and own != truth.trace and event.kind != Kind.DRAFT_NODE_EXECUTION:
                    linked.add(own)
    return done
