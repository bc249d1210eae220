"""Links from runs to their roots: in memory, in trace.state, and as records of trace.events."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

from streams.processing.avro import nullable, string
from streams.processing.correlate import Link
from streams.processing.tenants import MARK, differ, keyed
from streams.processing.unreadable import UnreadableRecord
from tailrace.codec import schemas, wire
from tailrace.codec.decoder import decoder_for
from tailrace.codec.varint import varint, zigzag
from tailrace.errors import DecodeError
from tailrace.records import Kind, RunLink

PREFIX: Final = b"l/"
"""Prefix of a link's key in trace.state."""
COST: Final = 200
"""Bytes of memory for an old link besides its run and its record (benchmarks/state.py measures it)."""


class Links:
    """Run -> root, the oldest first.

    A run that has a root accepts no other one, so two links that contradict each other end there. The same
    run in two tenants is two runs. A link that is older than `idle_ms` is kept packed.
    """

    def __init__(self, idle_ms: int, max_bytes: int) -> None:
        """Creates an empty table.

        Args:
            idle_ms: age from which a link is packed, by the partition's clock.
            max_bytes: memory that the links may take; above it the oldest are dropped.
        """
        self._idle_ms, self._max_bytes = idle_ms, max_bytes
        self._young: OrderedDict[bytes, tuple[Link, int, bytes]] = OrderedDict()
        """Key -> link, its append time, and its record."""
        self._old: dict[bytes, bytes] = {}
        """Key -> record."""
        self._order: deque[bytes] = deque()
        """The keys of `_old`, the oldest first."""
        self._changed: dict[bytes, None] = {}
        self._others = 0
        """Links of a run that another tenant has too, or had."""
        self.size = 0
        """Bytes of memory that they take."""
        self.forgotten = 0
        """Links that were dropped."""

    def __contains__(self, key: object) -> bool:
        return key in self._young or key in self._old

    def __iter__(self) -> Iterator[bytes]:
        yield from self._order
        yield from self._young

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> Link | None:
        """The link under a key: a run, or a run and its tenant. Raises `UnreadableRecord`."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        value = self._old.get(key)
        return None if value is None else _read(key, value)[0]

    def find(self, run: bytes, tenant: bytes | None) -> Link | None:
        """The link of a run, in a tenant if that is known. Raises `UnreadableRecord`."""
        found = self.get(run)
        if found is not None and not differ(found.tenant, tenant):
            return found
        return self.get(keyed(run, tenant)) if self._others and tenant is not None else None

    def add(self, run: bytes, link: Link, appended_at: int, offset: int) -> bool:
        """Adds a link. False if the run already has a root."""
        if self.find(run, link.tenant) is not None:
            return False
        key = run
        if link.tenant is not None and run in self:
            key = keyed(run, link.tenant)
            self._others += 1
        value = pack(link, appended_at, offset)
        self._young[key] = (link, appended_at, value)
        self._changed[key] = None
        self.size += COST + len(key) + len(value)
        while self.size > self._max_bytes and len(self) > 1:
            self._drop()
        return True

    def advance(self, clock: int) -> None:
        """Packs what is older than idle_ms."""
        horizon = clock - self._idle_ms
        while self._young:
            key = next(iter(self._young))
            _, appended_at, value = self._young[key]
            if appended_at >= horizon:
                break
            del self._young[key]
            self._old[key] = value
            self._order.append(key)

    def _drop(self) -> None:
        if self._order:
            key = self._order.popleft()
            value = self._old.pop(key)
        else:
            key, (_, _, value) = self._young.popitem(last=False)
        self.size -= COST + len(key) + len(value)
        self._changed[key] = None
        self.forgotten += 1

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """State records since the last call; None is a tombstone."""
        for key in self._changed:
            found = self._young.get(key)
            yield PREFIX + key, self._old.get(key) if found is None else found[2]
        self._changed = {}

    def restore(self, found: list[tuple[bytes, bytes]], clock: int) -> None:
        """Restores a former owner's links: key without prefix, and record; in any order.

        Args:
            clock: the partition's clock.

        Raises:
            UnreadableRecord: a record is malformed. What `advance` would pack is read on first use instead.
        """
        horizon = clock - self._idle_ms
        placed: list[tuple[int, int, bytes, bytes]] = []
        for key, value in found:
            offset, appended_at = _place(key, value)
            placed.append((offset, appended_at, key, value))
        placed.sort()
        for _, appended_at, key, value in placed:
            if appended_at < horizon:
                self._old[key] = value
                self._order.append(key)
            else:
                self._young[key] = (_read(key, value)[0], appended_at, value)
            if MARK in key:
                self._others += 1
            self.size += COST + len(key) + len(value)


def _place(key: bytes, value: bytes) -> tuple[int, int]:
    """Offset and append time of a record."""
    if value[:1] != b"\1":
        _, appended_at, offset = _read(key, value)
        return offset, appended_at
    try:
        appended_at, p = varint(value, 1)
        return varint(value, p)[0], appended_at
    except (IndexError, ValueError) as e:
        raise UnreadableRecord(PREFIX + key, e) from None


def _read(key: bytes, value: bytes) -> tuple[Link, int, int]:
    try:
        return unpack(value)
    except (DecodeError, IndexError, ValueError) as e:
        raise UnreadableRecord(PREFIX + key, e) from None


_unpack: Final = decoder_for(schemas.history("RunLink")[0])[0]


def unpack(value: bytes) -> tuple[Link, int, int]:
    """Decodes what `pack` wrote, in any version: the link, its append time and its offset.

    Raises:
        DecodeError: it is malformed.
    """
    if value[:1] == b"\1":  # the texts are not decoded, because there are many
        appended_at, offset, trace, run, app, started_at, tenant, split = _unpack(value, 1)
        return Link(trace, run, started_at, app, tenant, split), appended_at, offset
    r = wire.decode_versioned(value, RunLink)
    texts = (r.root_trace_id, r.root_run_id, r.root_app_id, r.tenant_id)
    trace, run, app, tenant = (None if text is None else text.encode() for text in texts)
    return Link(trace or b"", run, r.root_started_at, app, tenant, r.split), r.appended_at, r.offset


def pack(link: Link, appended_at: int, offset: int) -> bytes:
    """The value in trace.state: a version byte and the Avro body of `RunLink`."""
    return b"\1%b%b%b%b%b%b%b%b" % (
        _stamp(appended_at),
        zigzag(offset),
        string(link.trace),
        nullable(link.run),
        nullable(link.app),
        _long(link.started_at),
        nullable(link.tenant),
        b"\1" if link.split else b"\0",
    )


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
    "tenant_id": b"%b",
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
    tenant = nullable(link.tenant)
    return _EVENT % (event_id, own, own, string(link.trace), root, app, began, tenant, stamp, stamp, stamp)


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
        root = app = began = tenant = None
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
        p += 1 + _GAPS[7]
        if value[p]:
            n = value[p + 1] >> 1
            tenant = value[p + 2 : p + 2 + n]
            p += 1 + n
        at, _ = varint(value, p + 1 + _GAPS[8])
    except (IndexError, ValueError):
        return None
    link = Link(trace, root, began, app, tenant)
    texts = run + trace + (root or b"") + (app or b"") + (tenant or b"")
    if not texts.isascii() or record(run, link, at) != value:
        return None
    return run, link
