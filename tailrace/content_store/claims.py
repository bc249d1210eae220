"""What of an event goes to the content store, and the record that is produced then. Pure.

An event that is large is taken apart in two steps. `prepared` checks it, in the application's thread: what
is refused is refused there. `claimed` finds its media, hashes and encodes, in another thread; and `cut` makes
the record of an event whose content could not be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from tailrace import codec, loose, oversize, prepare
from tailrace.content import BODY_CONTENT, JsonText, Limits, all_changes
from tailrace.content_store import media, previews
from tailrace.content_store.naming import content_hash
from tailrace.content_store.references import MEDIA
from tailrace.errors import EventTooLarge
from tailrace.identity import mint
from tailrace.kinds import BODIES, BODY
from tailrace.oversize import CONTENT
from tailrace.prepare import Prepared
from tailrace.records import ChangeKind, ContentChange, ContentRef, Kind, TraceEvent

JSON: Final = "application/json"
TEXT: Final = "text/plain"
WALKED: Final = 32 * 1024 * 1024
"""Bytes of a field that are searched for media where there is no store."""
_PREVIEW: Final = 3000
"""Bytes of a preview and its reference, about."""

_BY_BODY: Final = {
    body: tuple(path for path in CONTENT if path.startswith(f"{body}.")) for body in BODY_CONTENT
}
_HEADER_CONTENT: Final = tuple(path for path in CONTENT if "." not in path)
_header: Final = attrgetter(*_HEADER_CONTENT)
_OF_KIND: Final = {
    kind.value: tuple(
        (body, tuple((path, path[len(body) + 1 :]) for path in paths))
        for body, paths in _BY_BODY.items()
        if paths and (body not in BODIES or body == BODY.get(kind))
    )
    for kind in Kind
}
"""Kind -> the bodies with content that its events may have, and the paths and names of the fields."""


class Blob(NamedTuple):
    """Content for the store."""

    hash: str
    data: bytes


class Claimed(NamedTuple):
    """What is written for a large event: first the content, then the record."""

    value: bytes
    blobs: tuple[Blob, ...]


class Large(NamedTuple):
    """An event with content for the store, checked."""

    event: TraceEvent
    """Complete, its content as text."""
    key: bytes | None
    size: int
    """Bytes of its record, if all of it were in there."""
    frame: bytes | None
    limits: Limits
    threshold: int

    @property
    def room(self) -> int:
        return self.limits.most - len(self.key or b"")


class Policy(NamedTuple):
    """What goes to the store."""

    threshold: int = 0
    """Bytes of a field above which it does; 0: what does not fit."""
    most: int = 100 * 1024 * 1024
    """Bytes of a field that are stored."""


def contents(event: TraceEvent) -> Iterator[tuple[str, str]]:
    """Path and text of every field with content. The event's content must be JSON text already."""
    for path, value in zip(_HEADER_CONTENT, _header(event), strict=True):
        if type(value) is str:
            yield path, value
    for name, fields in _OF_KIND[event.kind]:
        body = getattr(event, name)
        if body is not None:
            for path, field in fields:
                value = getattr(body, field)
                if type(value) is str:
                    yield path, value


@cache
def _wide(most: int, limits: Limits) -> Limits:
    """The limits of what may be stored."""
    return limits._replace(most=max(most, limits.most))


def _characters(event: TraceEvent) -> int:
    """Characters of an event's content; as `contents`, for every event."""
    size = 0
    for value in _header(event):
        if type(value) is str:
            size += len(value)
    for name, fields in _OF_KIND[event.kind]:
        body = getattr(event, name)
        if body is not None:
            for _, field in fields:
                value = getattr(body, field)
                if type(value) is str:
                    size += len(value)
    return size


def prepared(
    event: TraceEvent,
    now: int,
    limits: Limits,
    policy: Policy,
    frame: bytes | None = None,
    new_id: Callable[[], str] = mint,
    host_name: str | None = None,
) -> Prepared | Large:
    """The event as it is produced, or what has to be stored first.

    Args:
        event: as for `tailrace.prepare.prepared`.
        now: as there.
        limits: as there.
        policy: what goes to the store.
        frame: as there.
        new_id: as there.
        host_name: as there.

    Raises:
        InvalidEvent: as there.
        EventTooLarge: a field exceeds `policy.most`, or what cannot be stored is too large alone; and it
            is not to be cut.
    """
    wide = _wide(policy.most, limits)
    try:
        done = prepare.completed(event, now, wide, new_id, host_name)
        if not policy.threshold and _characters(done) < media.LEAST:
            return prepare.finished(done, limits, frame)
        found = list(contents(done))
        try:
            value, key = codec.encode(done, frame, wide.most), prepare.key_of(done)
        except Exception:  # as in `prepare.finished`
            done = loose.converted(done, wide)
            value, key = prepare.encoded(done, frame, wide), prepare.key_of(done)
            found = list(contents(done))
    except EventTooLarge as e:
        if wide.most > limits.most and not limits.cut:
            problem = f"is larger than the content store takes ({wide.most} bytes): raise content.max_bytes"
            raise EventTooLarge(e.field, problem) from None
        raise
    large = Large(done, key, len(value), frame, limits, policy.threshold)
    if len(value) > large.room:
        storable = [size for size in _sizes(done, found) if size > previews.LEAST]
        if len(value) - sum(storable) + _PREVIEW * len(storable) > large.room:
            if limits.cut:
                return cut(large)
            raise prepare.too_large(done, len(value), limits)
        return large
    least = max(policy.threshold, previews.LEAST)
    if policy.threshold and any(size > least for size in _sizes(done, found)):
        return large
    if any(media.may_hold(text) for _, text in found):
        return large
    return Prepared(done, key, value)


def claimed(large: Large) -> Claimed:
    """What is written for a large event.

    Raises:
        EventTooLarge: it does not fit, though its content is stored, and is not to be cut.
    """
    event, tenant = large.event, large.event.tenant_id or None
    texts = dict(contents(event))
    before = sum(map(_size, texts.values()))
    refs: list[ContentRef] = []
    blobs: dict[str, bytes] = {}

    def store(field: str, hash: str, data: bytes, media_type: str) -> None:
        if not any(ref.field == field and ref.hash == hash for ref in refs):
            refs.append(
                ContentRef(field=field, tenant_id=tenant, hash=hash, bytes=len(data), media_type=media_type)
            )
        blobs[hash] = data

    changed: dict[str, str] = {}
    left = media.MOST
    for path, text in texts.items():
        if len(text) < media.LEAST:
            continue
        shorter, found = media.named(text, left)
        left -= len(found)
        for medium in found:
            store(path + MEDIA, medium.hash, medium.data, medium.media_type)
        if found:
            changed[path] = shorter
    given = _given(event)
    sizes = {path: _size(text) for path, text in (texts | changed).items()}
    total = large.size - before + sum(sizes.values()) + 200 * len(refs)
    candidates = [path for path in sizes if path not in given and sizes[path] > previews.LEAST]
    for path in sorted(candidates, key=sizes.__getitem__, reverse=True):
        if total <= large.room - _PREVIEW and not 0 < large.threshold < sizes[path]:
            continue
        text = changed.get(path) or texts[path]
        data = text.encode()
        hash = content_hash(data)
        json = CONTENT[path] == "json"
        preview = previews.of_json if json else previews.of_text
        changed[path] = preview(text, hash, len(data))
        store(path, hash, data, JSON if json else TEXT)
        total -= sizes[path] - _PREVIEW
    done = _with(event, changed, content_refs=(*event.content_refs, *refs))
    value = codec.encode(done, large.frame)
    if len(value) > large.room:
        if large.limits.cut:
            done = oversize.truncate(done, len(value) - large.room)
            value = codec.encode(done, large.frame)
        if len(value) > large.room:
            raise prepare.too_large(done, len(value), large.limits)
    return Claimed(value, tuple(Blob(hash, data) for hash, data in blobs.items()))


def cut(large: Large) -> Prepared:
    """The record without the store: its media named, then its largest fields cut. The event says so.

    Raises:
        EventTooLarge: what may be cut is not enough.
    """
    changed: dict[str, str] = {}
    made: list[ContentChange] = []
    left = media.MOST
    for path, text in contents(large.event):
        if len(text) >= media.LEAST:
            shorter, found = media.named(text, left)
            left -= len(found)
            if found:
                changed[path] = shorter
                made.append(ContentChange(field=path, change=ChangeKind.CUT, bytes=_size(text)))
    event = large.event
    if made:
        changes = all_changes(event.content_changes, made)
        event = _with(event, changed, content_changes=changes)
        value = codec.encode(event, large.frame)
        if len(value) <= large.room:
            return Prepared(event, large.key, value)
    texts = {path: JsonText(text) for path, text in contents(event) if CONTENT[path] == "json"}
    limits = large.limits._replace(cut=True)
    published = event.published_at or 0
    return prepare.prepared(_with(event, texts), published, limits, large.frame)


def prepared_without_store(
    event: TraceEvent,
    now: int,
    limits: Limits,
    frame: bytes | None = None,
    host_name: str | None = None,
) -> Prepared:
    """As `tailrace.prepare.prepared`, but what would be cut has its media named first.

    Args:
        event: as there.
        now: as there.
        limits: as there; with `cut`.
        frame: as there.
        host_name: as there.

    Raises:
        InvalidEvent, EventTooLarge: as there.
    """
    found = prepare.prepared(event, now, limits, frame, host_name=host_name)
    if not any(c.change == ChangeKind.CUT for c in found.event.content_changes) or not _likely(event):
        return found
    source_id = str(found.event.source_id)
    try:
        done = prepare.completed(event, now, Limits(WALKED, True), lambda: source_id, host_name)
        value = codec.encode(done, frame)
    except Exception:  # a value that needs more than to be encoded: it is cut
        return found
    large = Large(done, found.key, len(value), frame, limits, 0)
    if not any(media.named(text, 1)[1] for _, text in contents(done) if len(text) >= media.LEAST):
        return found
    return cut(large)


def _likely(event: TraceEvent) -> bool:
    """Whether an event, as an application gives it, may have media."""
    for name in _HEADER_CONTENT:
        if media.likely(getattr(event, name, None)):
            return True
    for name, fields in _OF_KIND[event.kind]:
        body = getattr(event, name)
        if type(body) is BODY_CONTENT[name][0] and any(media.likely(getattr(body, f)) for _, f in fields):
            return True
    return False


def _given(event: TraceEvent) -> frozenset[str]:
    """Fields whose content is in a store already, as the event came."""
    return frozenset(ref.field for ref in event.content_refs)


def _sizes(event: TraceEvent, found: list[tuple[str, str]]) -> list[int]:
    """Bytes of the fields whose content may go to the store."""
    given = _given(event)
    return [_size(text) for path, text in found if path not in given]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _with(event: TraceEvent, texts: dict[str, Any], **changes: Any) -> TraceEvent:
    """The event with fields of other text."""
    bodies: dict[str, dict[str, Any]] = {}
    for path, text in texts.items():
        outer, _, inner = path.rpartition(".")
        bodies.setdefault(outer, {})[inner] = text
    changes |= bodies.pop("", {})
    for outer, inner_changes in bodies.items():
        changes[outer] = msgspec.structs.replace(getattr(event, outer), **inner_changes)
    return msgspec.structs.replace(event, **changes)
