"""Which content of a store may be deleted: what is old, and what no dead letter or archive names.

Content is put into the store before its event is published, and putting it again makes it young again
(`ContentStore.put`). So content that was not put for longer than a spool keeps an event and the topics keep a
record is named by no record that can still be read, replayed or redriven; except for what is kept longer
elsewhere. Each such place is a source of names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Final, NamedTuple, Protocol

from tailrace.content_store.store import Stored
from tailrace.errors import MissingPackage, TopicMismatch
from tailrace.settings import Settings

GROUP: Final = "tailrace.content_names"
"""Entry-point group of the sources of names. An entry is a function `(settings) -> Iterable[str]`.

It yields the hashes that its records name, in full; the same one may come often. If it cannot read all of its
records it raises, and nothing is deleted.
"""
HOUR: Final = 3600.0
MARGIN_HOURS: Final = 24.0
"""What is added for clocks that differ, and for segments that Kafka deletes late."""
SEGMENT_MS: Final = 7 * 24 * 3600 * 1000
"""Kafka's default of segment.ms, where a cluster does not say it."""

MOST: Final = 300_000
"""Old contents that one sweep looks at, which takes about 150 MB. The next one looks at others."""
_HASHES: Final = 1 << 32

Names = Callable[[Settings], Iterable[str]]


class Sweepable(Protocol):
    """The methods of a `ContentStore` that a sweep uses."""

    def names(self) -> Iterator[Stored]: ...
    def recover(self) -> None: ...
    def delete(self, folder: str, hash: str, modified_before: float | None = None) -> bool: ...
    def remove_unfinished(self, modified_before: float) -> int: ...


class Plan(NamedTuple):
    """What a sweep would do."""

    delete: list[Stored]
    young: int
    """Content that is younger than the lifetime."""
    named: int
    """Older content that a source names."""
    more: int = 0
    """Older content that was not looked at, since there is too much of it: another sweep does."""

    @property
    def bytes(self) -> int:
        """Bytes that are freed."""
        return sum(stored.bytes for stored in self.delete)


class Swept(NamedTuple):
    """What a sweep has done."""

    deleted: int
    bytes: int
    renewed: int
    """Content that was put again after it was listed, and stays."""
    unfinished: int
    """Files that killed publishers had left."""


def lifetime_hours(kept_ms: Iterable[int], spool_hours: float) -> float:
    """How long content must stay.

    Args:
        kept_ms: How long each of the topics keeps a record, milliseconds. A record may go to the next topic
            when the first one is about to delete it, so they add up.
        spool_hours: How long a spool keeps an event.
    """
    return sum(kept_ms) / (HOUR * 1000) + spool_hours + MARGIN_HOURS


def retentions(configs: Mapping[str, Mapping[str, str]], topics: Iterable[str]) -> list[int]:
    """How long topics keep a record, in milliseconds, from their configuration in the cluster; -1: no end.

    Kafka deletes whole segments, by the youngest record in them, so a record may stay for as long as its
    segment is written (segment.ms) and for the retention after that.

    Raises:
        TopicMismatch: A topic is missing, or says nothing of its retention: it is not known then what its
            records name.
    """
    found = []
    for topic in topics:
        config = configs.get(topic, {})
        text, segment = config.get("retention.ms", ""), config.get("segment.ms", "")
        if not text.lstrip("-").isdigit():
            raise TopicMismatch(f"{topic} is missing, or its retention.ms is not known")
        rolled = int(segment) if segment.isdigit() else SEGMENT_MS
        found.append(-1 if int(text) < 0 else int(text) + rolled)
    return found


def sources() -> dict[str, Names]:
    """The installed sources of names.

    Raises:
        MissingPackage: One of them cannot be loaded. Nothing may be deleted then.
    """
    found: dict[str, Names] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            found[entry.name] = entry.load()
        except ImportError as e:
            raise MissingPackage(
                f"content that {entry.name} may name cannot be spared: {e}; install what it needs"
            ) from None
    return found


def plan(
    stored: Iterable[Stored],
    before: float,
    named: Iterable[Iterable[str]],
    most: int = MOST,
    salt: int | None = None,
) -> Plan:
    """What may be deleted. Reads all of `stored` before any of `named`: what is written meanwhile is young.

    Args:
        stored: The content of the store.
        before: Seconds since 1970. Content that was put since is young.
        named: The hashes that each source names. A hash spares the content of every tenant.
        most: Old hashes that are looked at. If there are more, it is a random part of them: always the same
            part could be one that is named.
        salt: Chooses the part, below 2**32; None: at random.
    """
    salt = secrets.randbelow(_HASHES) if salt is None else salt
    old: dict[str, list[Stored]] = {}
    young = spared = more = 0
    limit = _HASHES
    for one in stored:
        if one.modified_at >= before:
            young += 1
        elif _place(one.hash, salt) >= limit:
            more += 1
        else:
            old.setdefault(one.hash, []).append(one)
            while len(old) > most:
                limit //= 2
                for name in [name for name in old if _place(name, salt) >= limit]:
                    more += len(old.pop(name))
    for names in named:
        for name in names:
            spared += len(old.pop(name, ()))
    return Plan([one for same in old.values() for one in same], young, spared, more)


def _place(name: str, salt: int) -> int:
    """Where a hash is among all, as the salt orders them."""
    return int(name[7:15], 16) ^ salt


def sweep(
    store: Sweepable,
    planned: Plan,
    before: float,
    progress: Callable[[Swept], None] = lambda so_far: None,
) -> Swept:
    """Deletes what is planned, except what was put again meanwhile.

    Args:
        store: The store.
        planned: From `plan`, with the same `before`.
        before: Seconds since 1970.
        progress: Called after each content with what was done until then.

    Raises:
        ContentUnreachable: The store does not answer. What was not deleted stays for the next sweep.
    """
    done = Swept(0, 0, 0, 0)
    for one in planned.delete:
        if store.delete(one.folder, one.hash, before):
            done = done._replace(deleted=done.deleted + 1, bytes=done.bytes + one.bytes)
        else:
            done = done._replace(renewed=done.renewed + 1)
        progress(done)
    return done._replace(unfinished=store.remove_unfinished(before))
