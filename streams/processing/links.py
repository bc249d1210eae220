"""Links from runs to their roots: in memory, in trace.state, and as records of trace.events."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.processing.avro import nullable, string
from streams.processing.correlate import Link
from tailrace.codec import schemas, wire
from tailrace.codec.decoder import decoder_for
from tailrace.codec.varint import varint, zigzag
from tailrace.records import Kind, RunLink

PREFIX: Final = b"l/"
"""Prefix of a link's key in trace.state."""


class Links(Mapping[bytes, Link]):
    """Run -> root, the oldest first.

    A run that has a root accepts no other one, so two links that contradict each other end there.
    """

    def __init__(self, keep_ms: int, most: int) -> None:
        """Creates an empty table.

        Args:
            keep_ms: how long a link is kept, by the partition's clock.
            most: links to keep; above it the oldest are dropped.
        """
        self._keep_ms, self._most = keep_ms, most
        self._links: OrderedDict[bytes, tuple[Link, int, int]] = OrderedDict()
        self._changed: dict[bytes, None] = {}

    def __getitem__(self, run: bytes) -> Link:
        return self._links[run][0]

    def __contains__(self, run: object) -> bool:  # Mapping's own raises and catches a KeyError
        return run in self._links

    def get(self, run: bytes, default: Any = None) -> Any:
        found = self._links.get(run)
        return default if found is None else found[0]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def add(self, run: bytes, link: Link, appended_at: int, offset: int) -> bool:
        """Adds a link. False if the run already has a root."""
        if run in self._links:
            return False
        self._links[run] = (link, appended_at, offset)
        self._changed[run] = None
        if len(self._links) > self._most:
            self._drop()
        return True

    def advance(self, clock: int) -> None:
        """Forgets links older than keep_ms."""
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
        """Restores a former owner's links: run, and what `unpack` returns."""
        self._links = OrderedDict(sorted(found, key=lambda item: item[1][2]))


_unpack: Final = decoder_for(schemas.history("RunLink")[0])[0]


def unpack(value: bytes) -> tuple[Link, int, int]:
    """Decodes what `pack` wrote, in any version: the link, its append time and its offset.

    Raises:
        DecodeError: it is malformed.
    """
    if value[:1] == b"\1":  # the texts are not decoded, because there are many
        trace, run, app, started_at, appended_at, offset = _unpack(value, 1)
        return Link(trace, run, started_at, app), appended_at, offset
    r = wire.decode_versioned(value, RunLink)
    return (
        Link(r.root_trace_id.encode(), _bytes(r.root_run_id), r.root_started_at, _bytes(r.root_app_id)),
        r.appended_at,
        r.offset,
    )


def pack(link: Link, appended_at: int, offset: int) -> bytes:
    """The value in trace.state: a version byte and the Avro body of `RunLink`."""
    return b"\1%b%b%b%b%b" % (
        string(link.trace),
        nullable(link.run),
        nullable(link.app),
        _long(link.started_at),
        _stamp(appended_at) + zigzag(offset),
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


_stamp: Final = functools.lru_cache(maxsize=64)(zigzag)
"""Caches times that many records share: one batch has few append times."""


def _long(value: int | None) -> bytes:
    return b"\0" if value is None else b"\2" + zigzag(value)


# -- as an event
ID: Final = b"link/"
"""Prefix of the event_id of a link that the processor writes; the run follows."""
_SLOTS: Final = {
    "event_id": b"%b",
    "trace_id": b"\2%b",
    "source_id": b"%b",
    "root_trace_id": b"\2%b",
    "root_run_id": b"%b",
    "root_app_id": b"%b",
    "root_started_at": b"%b",
    "started_at": b"%b",
    "ended_at": b"%b",
    "published_at": b"%b",
}
"""The fields in which link events differ, in the schema's order."""


def _template() -> tuple[bytes, ...]:
    """The constant bytes of a link event before each slot and after the last.

    Fields without a slot are null, empty or 0 (one zero byte), except the kind.
    """
    kind = zigzag(list(Kind).index(Kind.LINK))
    names = [f["name"] for f in schemas.current("TraceEvent")["fields"]]
    if [n for n in names if n in _SLOTS] != list(_SLOTS):
        raise AssertionError("the fields of a link event are not in the schema's order")
    constant, run = [], wire.frame_of("TraceEvent")
    for name in names:
        if name in _SLOTS:
            constant.append(run + _SLOTS[name].removesuffix(b"%b"))
            run = b""
        else:
            run += kind if name == "kind" else b"\0"
    return (*constant, run)


_CONSTANT: Final = _template()
_EVENT: Final = b"%b".join(part.replace(b"%", b"%%") for part in _CONSTANT)


def record(run: bytes, link: Link, at: int) -> bytes:
    """The value of a link event, as the codec would write it. `at`: its times, microseconds UTC."""
    own, stamp = string(run), _stamp(at)
    event_id = string(ID + run)
    root, app, began = nullable(link.run), nullable(link.app), _long(link.started_at)
    return _EVENT % (event_id, own, own, string(link.trace), root, app, began, stamp, stamp, stamp)


_GAPS: Final = tuple(len(part) for part in _CONSTANT)


def made_here(value: bytes) -> tuple[bytes, Link] | None:
    """Run and link of a record that `record` wrote; None for all others, which the header decoder reads.

    A fast path: with chatflows such records are frequent, and this costs a fraction of the decoder. It
    takes the bytes where the fields would be, and accepts the record if `record` writes the same bytes
    for them. It is limited to ASCII ids shorter than 64 bytes.
    """
    try:
        p = _GAPS[0]
        n = value[p] >> 1
        if n < len(ID) or not value.startswith(ID, p + 1):
            return None
        run = value[p + 1 + len(ID) : p + 1 + n]
        p += 1 + n + _GAPS[1] + 1 + len(run) + _GAPS[2] + 1 + len(run) + _GAPS[3]
        n = value[p] >> 1
        trace = value[p + 1 : p + 1 + n]
        p += 1 + n + _GAPS[4]
        root = app = began = None
        if value[p]:
            n = value[p + 1] >> 1
            root = value[p + 2 : p + 2 + n]
            p += 1 + n
        p += 1 + _GAPS[5]
        if value[p]:
            n = value[p + 1] >> 1
            app = value[p + 2 : p + 2 + n]
            p += 1 + n
        p += 1 + _GAPS[6]
        if value[p]:
            began, p = varint(value, p + 1)
            p -= 1
        at, _ = varint(value, p + 1 + _GAPS[7])
    except (IndexError, ValueError):
        return None
    link = Link(trace, root, began, app)
    if not (run + trace + (root or b"") + (app or b"")).isascii() or record(run, link, at) != value:
        return None
    return run, link
