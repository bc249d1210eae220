"""Links: which runs are known to belong under which root, in memory, in trace.state, and as records of trace.events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.correlate import Link
from tailrace import ids
from tailrace.codec import schemas, wire
from tailrace.codec.encoder import zigzag
from tailrace.records import Kind, RunLink

PREFIX: Final = b"l/"
"""Start of a link's key in trace.state."""


class Links(Mapping[bytes, Link]):
    """Run -> root, the oldest first. A run that has a root takes no other, so that two links against each other end there."""

    def __init__(self, keep_ms: int, most: int) -> None:
        """keep_ms: how long a link is kept, by the partition's clock. most: beyond it the oldest go."""
        self._keep_ms, self._most = keep_ms, most
        self._links: OrderedDict[bytes, tuple[Link, int, int]] = OrderedDict()
        self._changed: dict[bytes, None] = {}

    def __getitem__(self, run: bytes) -> Link:
        return self._links[run][0]

    def get(self, run: bytes, default: Any = None) -> Any:
        found = self._links.get(run)
        return default if found is None else found[0]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, run: bytes, link: Link, appended_at: int, offset: int) -> bool:
        """False if the run has a root already."""
        if run in self._links:
            return False
        self._links[run] = (link, appended_at, offset)
        self._changed[run] = None
        if len(self._links) > self._most:
            self._drop()
        return True

    def advance(self, clock: int) -> None:
        """Forgets what is older than keep_ms."""
        while self._links and next(iter(self._links.values()))[1] < clock - self._keep_ms:
            self._drop()

    def _drop(self) -> None:
        run, _ = self._links.popitem(last=False)
        self._changed[run] = None

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """State records since the last call; None is a tombstone."""
        for run in self._changed:
            found = self._links.get(run)
            yield PREFIX + run, None if found is None else pack(*found)
        self._changed = {}

    def restore(self, found: list[tuple[bytes, tuple[Link, int, int]]]) -> None:
        """Takes over a former owner's links: run, and what `unpack` gives."""
        self._links = OrderedDict(sorted(found, key=lambda item: item[1][2]))


def unpack(value: bytes) -> tuple[Link, int, int]:
    """What `pack` wrote, in any version: the link, its append time and its offset. Raises `DecodeError`."""
    r = wire.decode_versioned(value, RunLink)
    return (
        Link(r.root_trace_id.encode(), _bytes(r.root_run_id), r.root_started_at, _bytes(r.root_app_id)),
        r.appended_at,
        r.offset,
    )


def pack(link: Link, appended_at: int, offset: int) -> bytes:
    """The value of trace.state: a version byte and the Avro body of `RunLink`."""
    return b"".join(
        (
            b"\1",
            zigzag(len(link.trace)),
            link.trace,
            _text(link.run),
            _text(link.app),
            _long(link.started_at),
            zigzag(appended_at),
            zigzag(offset),
        )
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _text(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\2" + zigzag(len(value)) + value


def _long(value: int | None) -> bytes:
    return b"\0" if value is None else b"\2" + zigzag(value)


# -- as an event
def _segments() -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """A link event cut at what differs from one to the next: constant bytes around the slots, and the slots' names. Every
    other field is null, empty or 0, one zero byte, but for the kind."""
    slots = {
        "event_id",
        "trace_id",
        "source_id",
        "root_trace_id",
        "root_run_id",
        "root_app_id",
        "root_started_at",
        "started_at",
        "ended_at",
        "published_at",
    }
    names = [f["name"] for f in schemas.current("TraceEvent")["fields"]]
    constant, run = [], b""
    for name in names:
        if name in slots:
            constant.append(run)
            run = b""
        else:
            run += zigzag(list(Kind).index(Kind.LINK)) if name == "kind" else b"\0"
    return (*constant, run), tuple(n for n in names if n in slots)


_CONSTANT, _SLOTS = _segments()
_HEAD: Final = wire.frame_of("TraceEvent") + _CONSTANT[0]


def record(run: bytes, link: Link, at: int) -> bytes:
    """The value of a link event, as the codec would write it. at: its times, microseconds UTC."""
    text = run.decode()
    event_id = ids.event_id(Kind.LINK.value, text, text, 0).encode()
    stamp = zigzag(at)
    values = {
        "event_id": zigzag(len(event_id)) + event_id,
        "trace_id": _text(run),
        "source_id": zigzag(len(run)) + run,
        "root_trace_id": _text(link.trace),
        "root_run_id": _text(link.run),
        "root_app_id": _text(link.app),
        "root_started_at": _long(link.started_at),
        "started_at": stamp,
        "ended_at": stamp,
        "published_at": stamp,
    }
    out = [_HEAD]
    for name, after in zip(_SLOTS, _CONSTANT[1:], strict=True):
        out += (values[name], after)
    return b"".join(out)
