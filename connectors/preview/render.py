"""What a sink would send for an event, as JSON, without Kafka and without the vendor."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from connectors.config.instances import Instance
from connectors.preview.offline import enriched
from connectors.preview.unplaced import unplaced, unread
from connectors.sdk import redact
from connectors.sdk.contract import Enriched, Payload, Sink, Skip
from connectors.sdk.outcomes import Rejected
from tailrace.kinds import CONTROL
from tailrace.records import DeadLetter, TraceEvent

Admit = Callable[[Enriched], Enriched | Skip | Rejected]
"""Content policy, filters and masking: what the runner applies to a record before `map`."""


class Rendered(msgspec.Struct, frozen=True):
    """The result for one event."""

    event_id: str
    kind: str
    payload: Any = msgspec.UNSET
    link: str | msgspec.UnsetType = msgspec.UNSET
    """The vendor's page of the trace, of sinks that know it."""
    filtered: str | msgspec.UnsetType = msgspec.UNSET
    rejected: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    dead_letter: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """The processor's dead letter: the event never reaches a sink."""
    unplaced: list[str] | msgspec.UnsetType = msgspec.UNSET
    """If asked for: fields with a value that the payload has no place for, or the kind that is not sent."""

    @property
    def outcome(self) -> str:
        """rendered, filtered, rejected or dead-lettered."""
        if self.payload is not msgspec.UNSET:
            return "rendered"
        if self.filtered is not msgspec.UNSET:
            return "filtered"
        return "rejected" if self.rejected is not msgspec.UNSET else "dead-lettered"


def rendered(sink: Sink, payload: Payload) -> Any:
    """The payload as JSON-able Python, by the sink's own `render` if it has one.

    Otherwise the body: bytes and text that are JSON as that JSON, other text unchanged, other bytes as
    {"base64": …}. Raises TypeError for any other body.
    """
    own = getattr(sink, "render", None)
    if callable(own):
        return own(payload)
    return _plain(payload.body)


def _plain(body: Any) -> Any:
    if isinstance(body, bytes | bytearray | memoryview):
        raw = bytes(body)
        try:
            return _parsed(raw.decode())
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(raw).decode()}
    return _parsed(body) if isinstance(body, str) else msgspec.to_builtins(body)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return text


def _refused(name: str) -> Any:
    raise ValueError(name)


def render_all(
    instance: Instance,
    events: Sequence[TraceEvent],
    admit: Admit = lambda record: record,
    *,
    explain: bool = False,
) -> Iterator[Rendered]:
    """What the sink would send for completed events, in order.

    Args:
        instance: the sink.
        events: completed events.
        admit: what is applied to a record before `map`.
        explain: whether to find out what the payloads have no place for: `Rendered.unplaced`.

    Raises:
        MissingPackage: the processor is not installed.
    """
    found = enriched(events, instance.fields)
    for event, record in zip(events, found, strict=True):
        yield _one(instance, event, record, admit, explain)


def _one(
    instance: Instance,
    event: TraceEvent,
    record: Enriched | DeadLetter | None,
    admit: Admit,
    explain: bool,
) -> Rendered:
    event_id, kind, sink = event.event_id or "", str(event.kind), instance.sink
    if record is None:
        return Rendered(event_id, kind, filtered=kind if kind in CONTROL else "duplicate")
    if isinstance(record, DeadLetter):
        letter = {"stage": str(record.stage), "reason": record.reason, "detail": record.detail}
        return Rendered(event_id, kind, dead_letter=letter)
    admitted: Enriched | Skip | Rejected = Skip("")
    try:
        admitted = admit(record)
        answer = sink.map(admitted) if isinstance(admitted, Enriched) else admitted
        if isinstance(answer, Payload) and isinstance(admitted, Enriched):
            payload = rendered(sink, answer)
            left: list[str] | msgspec.UnsetType = msgspec.UNSET
            if explain:
                left = unread(event, instance.fields) + unplaced(sink, admitted, payload)
            return Rendered(event_id, kind, payload=payload, link=_link(sink, record), unplaced=left)
    except Exception as e:  # the runner treats it in the same way
        answer = Rejected("map_failed", redact.where(e))
    if isinstance(answer, Skip):
        if explain and isinstance(admitted, Enriched):
            return Rendered(event_id, kind, filtered=answer.reason, unplaced=[kind])
        return Rendered(event_id, kind, filtered=answer.reason)
    if isinstance(answer, Rejected):
        return Rendered(event_id, kind, rejected={"reason": answer.reason, "detail": answer.detail})
    return Rendered(
        event_id, kind, rejected={"reason": "map_failed", "detail": f"map returned {type(answer).__name__}"}
    )


def _link(sink: Sink, record: Enriched) -> str | msgspec.UnsetType:
    """By the sink's own `link`, if it has one."""
    own, trace = getattr(sink, "link", None), record.context.root_trace_id
    return (own(trace) or msgspec.UNSET) if callable(own) and trace is not None else msgspec.UNSET


def lines(rows: Iterable[Rendered], *, pretty: bool = False) -> Iterator[str]:
    """Each result as one line of JSON, or indented."""
    for row in rows:
        document = {k: v for k, v in msgspec.structs.asdict(row).items() if v is not msgspec.UNSET}
        text = json.dumps(document, ensure_ascii=False, indent=2 if pretty else None)
        # a lone surrogate, which JSON allows and UTF-8 does not
        yield text if _encodes(text) else json.dumps(document, indent=2 if pretty else None)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
