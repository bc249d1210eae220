"""Observations and scores as a Langfuse server stores them, merged by Langfuse's keys. No network.

Langfuse converts accepted spans in a worker, whose errors no client sees. `problems` has what that worker
would drop or misread.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from connectors.testing.doubles.received import ReceivedSpan

TYPES: Final = frozenset(
    {
        "span",
        "generation",
        "event",
        "embedding",
        "agent",
        "tool",
        "chain",
        "retriever",
        "guardrail",
        "evaluator",
    }
)
LEVELS: Final = frozenset({"DEBUG", "DEFAULT", "WARNING", "ERROR"})
_ENVIRONMENT: Final = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_TRACE: Final = "langfuse.trace.metadata."
_OBSERVATION: Final = "langfuse.observation.metadata."

ObservationKey = tuple[str, str, int]
"""Trace id, observation id, start in milliseconds."""
ScoreKey = tuple[str, str, str]
"""Id, day, name."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One observation as a reader of Langfuse sees it."""

    trace_id: str
    id: str
    parent_id: str | None
    name: str
    type: str
    start_ms: int
    end_ms: int
    level: str
    status_message: str | None
    trace_name: str | None
    user_id: str | None
    session_id: str | None
    environment: str
    release: str | None
    version: str | None
    tags: list[str]
    model: str | None
    usage: dict[str, Any]
    cost: dict[str, Any]
    completion_start: str | None
    input: str | None
    output: str | None
    metadata: dict[str, str]
    trace_metadata: dict[str, str]


class Score(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """The body of a score. Unlike in Langfuse, unknown fields are refused."""

    name: str
    value: float | str
    id: str = ""
    trace_id: str = ""
    session_id: str = ""
    observation_id: str = ""
    data_type: str = "NUMERIC"
    comment: str = ""
    metadata: dict[str, Any] = {}
    environment: str = "default"
    config_id: str = ""
    timestamp: str = ""


class InvalidScore(Exception):
    """The score is refused; the text says why."""


class LangfuseStore:
    """Observations and scores of one project. The last one with the same key replaces the former ones."""

    def __init__(self) -> None:
        self.observations: dict[ObservationKey, Observation] = {}
        self.scores: dict[ScoreKey, Score] = {}
        self.problems: list[str] = []
        """What Langfuse's worker would have dropped or misread, as sentences."""

    def add_spans(self, spans: Iterable[ReceivedSpan]) -> None:
        for span in spans:
            found = self._observation(span)
            self.observations[found.trace_id, found.id, found.start_ms] = found

    def add_score(self, score: Score) -> None:
        self.scores[score.id, score.timestamp[:10], score.name] = score

    def tree(self) -> dict[str, dict[str, str | None]]:
        """Trace id -> observation's name -> its parent's name; the id of a parent that is not stored."""
        names = {(o.trace_id, o.id): o.name for o in self.observations.values()}
        parents: dict[str, dict[str, str | None]] = {}
        for o in self.observations.values():
            parent = o.parent_id and names.get((o.trace_id, o.parent_id), o.parent_id)
            parents.setdefault(o.trace_id, {})[o.name] = parent
        return parents

    def tokens(self, trace_id: str) -> int:
        """Sum of the total tokens of a trace's observations, as Langfuse shows it."""
        return sum(int(o.usage.get("total", 0)) for o in self.observations.values() if o.trace_id == trace_id)

    def state(self) -> dict[str, Any]:
        """All of it, in an order that does not depend on when it came."""
        return {
            "observations": [self.observations[k] for k in sorted(self.observations)],
            "scores": [self.scores[k] for k in sorted(self.scores)],
            "problems": self.problems,
        }

    def _observation(self, span: ReceivedSpan) -> Observation:
        a = span.attributes
        where = f"{span.trace_id}/{span.span_id} ({span.name!r})"
        kind = self._one_of(a, "langfuse.observation.type", TYPES, "span", where)
        level = self._one_of(
            a, "langfuse.observation.level", LEVELS, "ERROR" if span.status == "error" else "DEFAULT", where
        )
        environment = str(a.get("langfuse.environment", "default"))
        if not _ENVIRONMENT.fullmatch(environment):
            self.problems.append(f"{where}: environment {environment!r}")
        for name, limit in (("session.id", 200), ("user.id", 200), ("langfuse.trace.name", 1000)):
            if len(str(a.get(name, ""))) > limit:
                self.problems.append(f"{where}: {name} has more than {limit} characters")
        if not span.start_ns or span.end_ns < span.start_ns:
            self.problems.append(f"{where}: start {span.start_ns}, end {span.end_ns}")
        tags = a.get("langfuse.trace.tags", [])
        if not isinstance(tags, list):
            self.problems.append(f"{where}: tags are not a list")
            tags = []
        return Observation(
            trace_id=span.trace_id,
            id=span.span_id,
            parent_id=span.parent_span_id,
            name=span.name,
            type=kind,
            start_ms=span.start_ns // 1_000_000,
            end_ms=span.end_ns // 1_000_000,
            level=level,
            status_message=a.get("langfuse.observation.status_message") or span.status_message or None,
            trace_name=a.get("langfuse.trace.name"),
            user_id=a.get("user.id"),
            session_id=a.get("session.id"),
            environment=environment,
            release=a.get("langfuse.release"),
            version=a.get("langfuse.version"),
            tags=[str(t) for t in tags],
            model=a.get("langfuse.observation.model.name"),
            usage=self._numbers(a, "langfuse.observation.usage_details", where, (int,)),
            cost=self._numbers(a, "langfuse.observation.cost_details", where, (int, float)),
            completion_start=self._time(a, where),
            input=a.get("langfuse.observation.input"),
            output=a.get("langfuse.observation.output"),
            metadata=self._metadata(a, _OBSERVATION, where),
            trace_metadata=self._metadata(a, _TRACE, where),
        )

    def _one_of(self, a: dict[str, Any], name: str, known: frozenset[str], default: str, where: str) -> str:
        value = str(a.get(name, default))
        if value not in known:
            self.problems.append(f"{where}: {name} is {value!r}")
            return default
        return value

    def _numbers(self, a: dict[str, Any], name: str, where: str, kinds: tuple[type, ...]) -> dict[str, Any]:
        """Numbers in a JSON object. Langfuse drops an attribute that is anything else."""
        if name not in a:
            return {}
        try:
            numbers = json.loads(a[name])
        except (ValueError, TypeError):
            numbers = None
        if not isinstance(numbers, dict) or not all(type(v) in kinds and v >= 0 for v in numbers.values()):
            self.problems.append(f"{where}: {name} is {a[name]!r}")
            return {}
        return numbers

    def _time(self, a: dict[str, Any], where: str) -> str | None:
        value = a.get("langfuse.observation.completion_start_time")
        if value is not None and instant(value) is None:
            self.problems.append(f"{where}: completion_start_time is {value!r}")
            return None
        return value

    def _metadata(self, a: dict[str, Any], prefix: str, where: str) -> dict[str, str]:
        metadata = {k.removeprefix(prefix): v for k, v in a.items() if k.startswith(prefix)}
        self.problems += [
            f"{where}: metadata {k} is not a text" for k, v in metadata.items() if not isinstance(v, str)
        ]
        return metadata


def score_of(body: Any) -> Score:
    """Checks the body of a score by Langfuse's rules. Raises `InvalidScore`."""
    try:
        score = msgspec.convert(body, Score)
    except msgspec.ValidationError as e:
        raise InvalidScore(str(e)) from None
    if bool(score.trace_id) == bool(score.session_id):
        raise InvalidScore("a score must have either a traceId or a sessionId")
    if score.observation_id and not score.trace_id:
        raise InvalidScore("observationId requires traceId")
    if not score.name or not score.id:
        raise InvalidScore("name and id must not be empty")
    if score.data_type not in ("NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT"):
        raise InvalidScore(f"dataType {score.data_type} is unknown")
    if isinstance(score.value, str) != (score.data_type in ("CATEGORICAL", "TEXT")):
        raise InvalidScore(f"the value of a {score.data_type} score is {score.value!r}")
    if score.data_type == "BOOLEAN" and score.value not in (0, 1):
        raise InvalidScore("the value of a BOOLEAN score must be 0 or 1")
    if not _ENVIRONMENT.fullmatch(score.environment):
        raise InvalidScore(f"environment {score.environment!r} is not allowed")
    if instant(score.timestamp) is None:
        raise InvalidScore("timestamp must be ISO 8601 with a time zone")
    return score


def instant(text: Any) -> int | None:
    """Unix milliseconds of an ISO 8601 time with a zone; None for anything else."""
    try:
        return (datetime.datetime.fromisoformat(text) - _EPOCH) // datetime.timedelta(milliseconds=1)
    except (ValueError, TypeError):
        return None
