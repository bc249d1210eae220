"""Splits a batch into requests to Opik, and combines their outcomes to one per record. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import orjson

from connectors.sdk.outcomes import Delivered, Outcome, Outcomes, Paused, Rejected, Retry, Split
from connectors.sinks.opik.scores import SPANS, THREADS, TRACES, Parts, Score

MOST: Final = 1000
"""Most items that Opik takes in a request."""


class Call(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    """Path below the base URL."""
    body: bytes
    records: tuple[int, ...]
    """Positions of the batch's records that are in the request."""
    rates: bool = False
    """Whether it has scores. Opik must already have the trace or span of a score."""


def calls(bodies: Sequence[Parts]) -> Iterator[Call]:
    """The requests of a batch: traces first, then spans, then scores.

    Of several scores with the same name for the same object only the last is sent.
    """
    traces, spans = [p[0] for p in bodies], [p[1] for p in bodies]
    for path, name, items in (
        ("/v1/private/traces/batch", "traces", traces),
        ("/v1/private/spans/batch", "spans", spans),
    ):
        records = tuple(i for i, item in enumerate(items) if item is not None)
        if records:
            yield Call("POST", path, _batch(name, items), records)
    last: dict[tuple[str, str, str], tuple[Score, list[int]]] = {}
    for i, parts in enumerate(bodies):
        if (score := parts[2]) is not None:
            key = score[:3]
            last[key] = (score, [*(last.pop(key)[1] if key in last else ()), i])
    for entity in (TRACES, SPANS, THREADS):
        given = [(score, who) for score, who in last.values() if score[0] == entity and score[3] is not None]
        if given:
            records = tuple(sorted(i for _, who in given for i in who))
            scores = _batch("scores", [score[3] for score, _ in given])
            yield Call("PUT", f"/v1/private/{entity}/feedback-scores", scores, records, True)
    for (entity, rated, name, body), who in last.values():
        if body is None:  # withdrawn; Opik deletes one at a time
            path = f"/v1/private/{entity}/{rated}/feedback-scores/delete"
            yield Call("POST", path, orjson.dumps({"name": name}), tuple(who), True)


def _batch(name: str, items: Sequence[bytes | None]) -> bytes:
    return b'{"%b":[%b]}' % (name.encode(), b",".join(i for i in items if i is not None))


Answered = Sequence[tuple[Call, Outcome]]
_NOBODY: Final[frozenset[int]] = frozenset()


def to_be_held(call: Call, answered: Answered) -> bool:
    """Whether a call must wait: what it rates may be in a request that another record got refused."""
    return call.rates and any(
        isinstance(o, Rejected | Split) and len(c.records) > 1 and not c.rates for c, o in answered
    )


def combine(
    count: int, answered: Answered, too_old: frozenset[int] = _NOBODY, held: frozenset[int] = _NOBODY
) -> Outcomes:
    """The outcome of each record of a batch, or one for all: the worst outcome of its requests.

    The records of a refused request are split, so that a record is rejected only for a request with this
    record alone. It is safe to send records again, because their ids are the same every time.

    Args:
        count: Records in the batch.
        answered: The calls that were made, with their outcomes.
        too_old: Records whose ids are certainly outside the window that Opik reported.
        held: Records of calls that were not made.
    """
    for kind in (Paused, Retry):
        for _, outcome in answered:
            if isinstance(outcome, kind):
                return outcome
    outcomes: list[Outcome] = [Delivered()] * count
    halved: set[int] = set()
    for call, outcome in answered:
        if isinstance(outcome, Delivered):
            continue
        stale = too_old.intersection(call.records) if isinstance(outcome, Rejected) else frozenset()
        rest = [i for i in call.records if i not in stale]
        for i in stale:
            outcomes[i] = outcome
        if stale:
            for i in rest:
                outcomes[i] = _worse(outcomes[i], _ALONE)
        elif len(rest) == 1:
            outcomes[rest[0]] = outcome
        else:
            halved.update(rest)
    halved = {i for i in halved if i not in too_old or isinstance(outcomes[i], Delivered)} | held
    for i in halved:
        outcomes[i] = Split() if len(halved) > 1 else _ALONE
    same = isinstance(outcomes[0], Delivered | Split) and all(o == outcomes[0] for o in outcomes)
    return outcomes[0] if same or count == 1 else outcomes


_ALONE: Final = Retry(0.0, "other records of its request were refused")


def _worse(one: Outcome, other: Outcome) -> Outcome:
    return other if isinstance(one, Delivered) else one
