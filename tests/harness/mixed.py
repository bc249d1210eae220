"""A reproducible load with every kind of event: many small traces, their events interleaved.

Workflows (iterations, tools that call workflows, three deep), chatflow and chat turns, spans of agents,
drafts, prompt generations, evaluations, app events. Prices in two currencies or none, errors, corrections,
duplicates, and clocks that are wrong.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Final

import msgspec

from tailrace.identity import complete, kafka_key, own_id
from tailrace.ids import otel_span_id
from tailrace.kinds import OWN_TRACE, WITHOUT_TRACE
from tailrace.partitioner import partition_of
from tailrace.records import (
    DatasetRetrieval,
    Evaluation,
    EvaluationSource,
    EvaluationTarget,
    Feedback,
    Kind,
    Message,
    Moderation,
    NodeExecution,
    PromptGeneration,
    RehydrationFailed,
    Span,
    SpanKind,
    SuggestedQuestion,
    TokenClasses,
    Tool,
    TraceEvent,
    WorkflowRun,
)
from tests.harness.recount_events import Logged

MODELS: Final = (
    ("langgenius/openai/openai", "gpt-4o-mini"),
    ("langgenius/openai/openai", "gpt-4o"),
    ("langgenius/anthropic/anthropic", "claude-3-5-sonnet-20241022"),
    ("langgenius/tongyi/tongyi", "qwen-max"),
    ("langgenius/deepseek/deepseek", "deepseek-chat"),
    ("langgenius/azure_openai/azure_openai", "gpt-4o"),
    ("openai", "gpt-4.1"),
    ("somewhere/else/else", "model-of-our-own"),
)
TOGETHER: Final = 8
"""Traces at the same time, their events interleaved."""
DEEPEST: Final = 3
"""Nested runs inside each other."""
_DAY: Final = 86_400_000_000
_SECOND: Final = 1_000_000


class _Maker:
    """Makes traces. They depend only on the seed and `now_us`."""

    def __init__(self, seed: int, now_us: int) -> None:
        self.rng = random.Random(seed)
        self.now = now_us
        self.tenants = [(self.id(), [self.id() for _ in range(3)]) for _ in range(3)]

    def id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def event(self, kind: Kind, begin: int, took: int, fields: dict[str, Any], **more: Any) -> TraceEvent:
        """An event. Sometimes it has failed, sometimes its clock is wrong."""
        roll = self.rng.random()
        if roll < 0.006:
            begin -= 3 * _DAY
        elif roll < 0.012:
            begin += 365 * _DAY
        elif roll < 0.02:
            took = -took
        failed = self.chance(0.05)
        outcome: dict[str, Any] = {"status": "failed" if failed else "succeeded"}
        if failed and self.chance(0.8):
            outcome |= {
                "error": "it broke: " + "Zeitüberschreitung, " * self.rng.randrange(1, 30),
                "error_type": "Timeout",
            }
        elif self.chance(0.02):
            outcome = {"status": "exception", "error": "it broke, and went on"}
        times = {"kind": kind, "started_at": begin, "ended_at": begin + took}
        values: dict[str, Any] = times | outcome | fields | more
        return TraceEvent(**values)

    def usage(self, *, priced: float = 0.6) -> dict[str, Any]:
        """Model, tokens and sometimes a price."""
        rng = self.rng
        provider, model = rng.choice(MODELS)
        given, made = rng.randrange(0, 4000), rng.randrange(0, 1000)
        found: dict[str, Any] = {
            "model_provider": provider,
            "model_name": model,
            "input_tokens": -1 if self.chance(0.01) else given,
            "output_tokens": made,
            "total_tokens": rng.choice([given + made, given + made, None, 0]),
            "usage_repeats": rng.choice([None, None, None, None, None, None, True, False]),
        }
        if self.chance(0.4):
            found |= self.classes(max(found["input_tokens"], 0), made)
        return found | (self.price() if self.chance(priced) else {})

    def classes(self, given: int, made: int) -> dict[str, Any]:
        """Tokens by class, as different providers count them."""
        rng = self.rng
        read = rng.randrange(given + 1)
        write = rng.randrange(given - read + 1)
        audio = rng.choice([None, 0, rng.randrange(given + 1)])
        image = rng.choice([None, 0, rng.randrange(given - (audio or 0) + 1)])
        cached = rng.choice([None, min(read, audio or 0)])
        drawn = rng.choice([None, 0, rng.randrange(made + 1)])
        classes = TokenClasses(
            cache_read=read,
            cache_write=rng.choice([None, write]),
            reasoning=rng.choice([None, rng.randrange(made + 1)]),
            input_audio=audio,
            input_image=image,
            cache_read_audio=cached,
            output_audio=None if drawn is None else rng.randrange(made - drawn + 1),
            output_image=drawn,
        )
        if classes.cache_write:
            hour = rng.choice([None, rng.randrange(write + 1)])
            classes = msgspec.structs.replace(classes, cache_write_1h=hour)
        return {
            "token_classes": classes,
            "service_tier": rng.choice([None, None, "default", "batch", "priority", "unheard of"]),
            "response_model": rng.choice([None, "gpt-4.1-mini", "a name that no table has"]),
        }

    def price(self) -> dict[str, Any]:
        amount = self.rng.choice(
            ["0", "0.0", f"{self.rng.uniform(0, 0.2):.7f}", f"{self.rng.uniform(0, 1):.15f}"]
        )
        price = {"input_price": amount, "output_price": "0.0000001"}
        if self.chance(0.8):
            price = {"total_price": amount}
        return {**price, "currency": self.rng.choice(["USD", "USD", "RMB", None])}

    def begin(self) -> int:
        """When a trace begins: in the last ten minutes, rarely days ago or a year ahead."""
        start = self.now - self.rng.randrange(600 * _SECOND)
        roll = self.rng.random()
        return start - 3 * _DAY if roll < 0.02 else start + 365 * _DAY if roll < 0.03 else start

    def shared(self) -> dict[str, Any]:
        """What all events of a trace have in common."""
        rng = self.rng
        tenant, apps = rng.choice(self.tenants)
        return {
            "tenant_id": tenant,
            "app_id": rng.choice(apps),
            "app_name": rng.choice([None, "Support", "Übersetzer"]),
            "user_id": rng.choice([None, f"user-{rng.randrange(20)}"]),
            "session_id": rng.choice([None, f"session-{rng.randrange(20)}"]),
            "invoke_from": rng.choice(["api", "webapp", "debug", None]),
            "environment": "test",
        }

    # -- traces: lists of events in the order of publishing
    def run(
        self,
        shared: dict[str, Any],
        begin: int,
        depth: int = 0,
        roots: dict[str, Any] | None = None,
        **above: Any,
    ) -> list[TraceEvent]:
        """A workflow run with its nodes before it.

        Args:
            roots: for a nested run, the header fields about its root.
            above: what the events of the run and of its nodes have of a message or a caller.
        """
        rng, run_id, workflow = self.rng, self.id(), self.id()
        fields = shared | (roots or {}) | above | {"workflow_run_id": run_id}
        if roots is not None and self.chance(0.7):
            fields["app_id"] = rng.choice(next(apps for t, apps in self.tenants if t == shared["tenant_id"]))
        at = begin
        found: list[TraceEvent] = []
        number = count(1)

        def node(node_type: str, parent: str | None = None, took: int | None = None, **more: Any) -> str:
            source, index = self.id(), next(number)
            took = rng.randrange(1000, 3 * _SECOND) if took is None else took
            body = NodeExecution(node_id=f"node-{index}", workflow_id=workflow, index=index)
            found.append(
                self.event(
                    Kind.NODE_EXECUTION,
                    at,
                    took,
                    fields,
                    source_id=source,
                    parent_id=parent,
                    node_type=node_type,
                    name=f"{node_type} {index}",
                    node_execution=body,
                    **more,
                )
            )
            return source

        node("start", took=rng.randrange(100))
        for node_type in rng.choices(
            ["llm", "tool", "iteration", "loop", "knowledge-retrieval", "code", "agent"],
            k=rng.randrange(1, 5),
        ):
            at += rng.randrange(_SECOND)
            if node_type == "llm":
                source = node("llm", **self.usage())
                if self.chance(0.4):
                    found.append(self.span(fields, at, SpanKind.LLM, source))
            elif node_type in ("iteration", "loop"):
                source = node(
                    node_type, took=8 * _SECOND, total_tokens=rng.choice([None, 0, rng.randrange(9000)])
                )
                for _ in range(rng.randrange(4)):
                    node("llm", source, **self.usage())
                if self.chance(0.5):
                    found.append(found.pop(-1 - rng.randrange(len(found))))
            elif node_type == "tool":
                source = node(
                    "tool", tool_name=rng.choice(["search", "sum"]), plugin_name="langgenius/search"
                )
                if depth < DEEPEST and self.chance(0.5):
                    caller = {"parent_run_id": run_id, "parent_node_execution_id": source}
                    caller |= {"parent_app_id": fields["app_id"]}
                    root = roots or {
                        "root_trace_id": above.get("message_id") or run_id,
                        "root_run_id": run_id,
                        "root_app_id": rng.choice([None, shared["app_id"]]),
                        "root_started_at": begin,
                    }
                    found += self.run(shared, at, depth + 1, root, **caller)
            elif node_type == "knowledge-retrieval":
                node(node_type, plugin_name="langgenius/knowledge", dataset_ids=self.datasets())
            elif node_type == "agent":
                source = node("agent", **self.usage(priced=0.3))
                found += [self.span(fields, at, kind, source) for kind in (SpanKind.LLM, SpanKind.TOOL)]
            else:
                node(node_type)
        node("end", took=rng.randrange(100))
        tokens = rng.choice([None, 0, rng.randrange(20_000)])
        found.append(
            self.event(
                Kind.WORKFLOW_RUN,
                begin,
                at - begin + 4 * _SECOND,
                fields,
                name="workflow",
                total_tokens=tokens,
                workflow_run=WorkflowRun(workflow_id=workflow, workflow_version="1"),
                **(self.price() if self.chance(0.1) else {}),
            )
        )
        return found

    def span(
        self, fields: dict[str, Any], begin: int, kind: SpanKind, parent: str | None, **more: Any
    ) -> TraceEvent:
        usage: dict[str, Any] = {}
        if kind in (SpanKind.LLM, SpanKind.EMBEDDING):
            usage = self.usage(priced=0.3)
        elif kind in (SpanKind.AGENT, SpanKind.CHAIN, SpanKind.TASK) and self.chance(0.5):
            usage = self.usage(priced=0.5)
        own: dict[str, Any] = {
            "source_id": self.id(),
            "parent_id": parent,
            "span_kind": kind,
            "name": f"{kind} span",
        }
        took = self.rng.randrange(2 * _SECOND)
        return self.event(
            Kind.SPAN, begin, took, fields, **(own | usage | {"span": Span(otel_kind="client")} | more)
        )

    def datasets(self) -> list[str]:
        return self.rng.choices(["dataset-1", "dataset-2", "dataset-3"], k=self.rng.randrange(4))

    def turn(self, *, chatflow: bool) -> list[TraceEvent]:
        """A turn of a conversation: a message with its side operations and, in a chatflow, its run."""
        rng, message, begin = self.rng, self.id(), self.begin()
        shared = self.shared()
        fields = shared | {"message_id": message, "conversation_id": self.id(), "mode": "chat"}
        of_run = {name: fields[name] for name in ("message_id", "conversation_id", "mode")}
        found = self.run(shared, begin, **of_run) if chatflow else []
        run_id = found[-1].workflow_run_id if found else None
        sides: list[tuple[Kind, dict[str, Any]]] = [
            (Kind.MODERATION, {"moderation": Moderation(action="pass")}),
            (Kind.SUGGESTED_QUESTION, {"suggested_question": SuggestedQuestion(questions=["Why?"])}),
            (
                Kind.DATASET_RETRIEVAL,
                {"dataset_ids": self.datasets(), "dataset_retrieval": DatasetRetrieval(query="q")},
            ),
            (Kind.TOOL, {"tool_name": rng.choice(["search", "sum"]), "tool": Tool(call_id="1")}),
            (Kind.GENERATE_NAME, {}),
            (
                Kind.FEEDBACK,
                {"rating": rng.choice(["like", "dislike", None]), "feedback": Feedback(feedback_id="f")},
            ),
        ]
        for kind, more in sides:
            if self.chance(0.5):
                took = 0 if kind == Kind.FEEDBACK else rng.randrange(_SECOND)
                found.append(
                    self.event(
                        kind,
                        begin + rng.randrange(_SECOND),
                        took,
                        fields,
                        name=str(kind),
                        source_id=self.id(),
                        **more,
                    )
                )
        usage = self.usage() if self.chance(0.8) else {}
        found.append(
            self.event(
                Kind.MESSAGE,
                begin,
                9 * _SECOND,
                fields,
                workflow_run_id=run_id,
                name="turn",
                message=Message(streaming=True),
                time_to_first_token=rng.choice([None, rng.randrange(_SECOND)]),
                **usage,
            )
        )
        return found

    def agent(self) -> list[TraceEvent]:
        """Spans of an agent, sometimes with OpenTelemetry's ids. The root or each span names the trace."""
        root, begin, native = self.id(), self.begin(), self.chance(0.5)
        fields = self.shared() | {"trace_id": self.rng.choice([root, self.id()])}
        if native:
            fields["otel_trace_id"] = self.rng.randbytes(16)

        def ids(source: str, parent: str | None) -> dict[str, Any]:
            if not native:
                return {}
            span = {"otel_span_id": otel_span_id("native " + source)}
            return span | ({"otel_parent_span_id": otel_span_id("native " + parent)} if parent else {})

        found = []
        parents = [root]
        for kind in self.rng.choices(list(SpanKind), k=self.rng.randrange(8)):
            source, parent = self.id(), self.rng.choice(parents)
            more = {"source_id": source, **ids(source, parent)}
            found.append(self.span(fields, begin + self.rng.randrange(_SECOND), kind, parent, **more))
            parents.append(source)
        found.append(self.span(fields, begin, SpanKind.AGENT, None, source_id=root, **ids(root, None)))
        return found

    def single(self) -> list[TraceEvent]:
        """An event alone: a draft, a prompt generation, or an event without a trace."""
        rng, shared, begin = self.rng, self.shared(), self.begin()
        took = rng.randrange(5 * _SECOND)
        kind = rng.choice(
            [
                Kind.DRAFT_NODE_EXECUTION,
                Kind.DRAFT_NODE_EXECUTION,
                Kind.PROMPT_GENERATION,
                Kind.PROMPT_GENERATION,
                Kind.APP_CREATED,
                Kind.APP_UPDATED,
                Kind.APP_DELETED,
                Kind.REHYDRATION_FAILED,
            ]
        )
        more: dict[str, Any] = {"source_id": self.id()}
        if kind == Kind.DRAFT_NODE_EXECUTION:
            body = NodeExecution(node_id="node-1", workflow_id=self.id())
            more |= {
                "node_type": "llm",
                "name": "draft",
                "node_execution": body,
                "workflow_run_id": self.id(),
            }
            more |= self.usage()
        elif kind == Kind.PROMPT_GENERATION:
            more |= {
                "operation_type": rng.choice(["rule_generate", "code_generate"]),
                "name": "generate",
                **self.usage(),
            }
            more |= {"prompt_generation": PromptGeneration(instruction="shorter")}
        elif kind == Kind.REHYDRATION_FAILED:
            more |= {"rehydration_failed": RehydrationFailed(payload_type="workflow")}
        else:
            took, more = 0, more | {"mode": rng.choice(["chat", "workflow"])}
        return [self.event(kind, begin, took, shared, **more)]

    def evaluated(self, trace: list[TraceEvent]) -> list[TraceEvent]:
        """The trace with evaluations of it, of its operations and of its session."""
        rng = self.rng
        judged = [e for e in trace if e.parent_run_id is None and e.kind not in WITHOUT_TRACE]
        found = []
        for e in rng.choices(judged, k=rng.choice([0, 0, 1, 2])) if judged else ():
            own = own_id(e)
            ids: dict[str, Any] = {"otel_trace_id": e.otel_trace_id}
            trace_id = None if e.kind in OWN_TRACE else e.trace_id or e.message_id or e.workflow_run_id
            ids["trace_id"] = trace_id or own
            if self.chance(0.5):
                ids |= {"parent_id": own, "otel_parent_span_id": e.otel_span_id}
            elif (e.conversation_id or e.session_id) and self.chance(0.4):
                ids |= {"conversation_id": e.conversation_id, "session_id": e.session_id}
                ids["evaluation_target"] = EvaluationTarget.SESSION
            results: list[dict[str, Any]] = [
                {"number": rng.uniform(-1, 5)},
                {"number": 1.0, "label": "correct"},
                {"label": rng.choice(["polite", "übel"])},
                {"flag": self.chance(0.8)},
            ]
            source = rng.choice([None, EvaluationSource.MODEL, EvaluationSource.CODE])
            body = Evaluation(
                **rng.choice(results), source=source, evaluator=self.id(), explanation="because"
            )
            shared = {"tenant_id": e.tenant_id, "app_id": e.app_id}
            name = rng.choice(["correctness", "tone"])
            took = rng.randrange(_SECOND)
            begin = e.started_at + 20 * _SECOND
            found.append(self.event(Kind.EVALUATION, begin, took, shared, name=name, evaluation=body, **ids))
        return [*trace, *found]

    def trace(self) -> list[TraceEvent]:
        kind = self.rng.choices(["workflow", "chatflow", "chat", "agent", "single"], [30, 20, 15, 15, 20])[0]
        match kind:
            case "workflow":
                return self.run(self.shared(), self.begin())
            case "chatflow" | "chat":
                return self.turn(chatflow=kind == "chatflow")
            case "agent":
                return self.agent()
            case _:
                return self.single()

    def published(self, trace: list[TraceEvent]) -> list[TraceEvent]:
        """The trace's events, complete, with corrections and duplicates, sometimes out of order."""
        if self.chance(0.2):
            self.rng.shuffle(trace)
        found = [complete(e, self.now, self.id) for e in trace]
        for e in list(found):
            if self.chance(0.05):
                for revision in (1, 2) if self.chance(0.3) else (1,):
                    self._after(found, e, self._corrected(e, revision))
        if self.chance(0.05):  # a correction comes before what it corrects
            found.reverse()
        for e in list(found):
            if self.chance(0.04):
                self._after(found, e, e)
        return found

    def _after(self, events: list[TraceEvent], one: TraceEvent, another: TraceEvent) -> None:
        events.insert(self.rng.randint(events.index(one) + 1, len(events)), another)

    def _corrected(self, e: TraceEvent, revision: int) -> TraceEvent:
        changed: dict[str, Any] = {
            "revision": revision,
            "event_id": None,
            "ended_at": e.ended_at + 1000 * revision,
        }
        changed |= self.rng.choice(
            [{"status": "succeeded", "error": None}, {"error": f"revised {revision}"}, {}]
        )
        if e.total_tokens is not None:
            changed["total_tokens"] = self.rng.randrange(9000)
        return complete(msgspec.structs.replace(e, **changed), self.now)


def mixed(seed: int, events: int, now_us: int) -> Iterator[TraceEvent]:
    """`events` completed events in the order of publishing.

    Each trace is whole: its root is among them, and so is the caller of a nested run, and what an evaluation
    is about.

    Args:
        seed: of all random choices.
        events: how many.
        now_us: microseconds UTC; all but a few events start in the ten minutes before.
    """
    maker = _Maker(seed, now_us)
    open_: list[Iterator[TraceEvent]] = []
    left = events
    while left or open_:
        while left and len(open_) < TOGETHER:
            trace = maker.published(maker.evaluated(maker.trace()))
            while len(trace) > left:
                trace = [complete(maker.single()[0], now_us, maker.id)]
            left -= len(trace)
            open_.append(iter(trace))
        one = maker.rng.choice(open_)
        event = next(one, None)
        if event is None:
            open_.remove(one)
        else:
            yield event


def as_log(events: Iterable[TraceEvent], partitions: int, now_us: int, step_ms: int = 1) -> list[Logged]:
    """The events as records of trace.events, appended one after the other from now on."""
    ends = [0] * partitions
    found = []
    for i, event in enumerate(events):
        partition = partition_of((kafka_key(event) or "").encode(), partitions)
        found.append(Logged(partition, ends[partition], now_us // 1000 + i * step_ms, event))
        ends[partition] += 1
    return found


def root_of(logged: Logged) -> str | None:
    """The trace of an event's root in this load. Its nested runs name their root."""
    event = logged.event
    return event.root_trace_id or event.trace_id
