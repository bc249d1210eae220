"""What a sweep deletes: old content that nothing names. On a real folder; the sources of names are lists."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import codec
from tailrace.content_store import sweep as rules
from tailrace.content_store.dead_letters import hashes
from tailrace.content_store.folder import UNFINISHED, Folder
from tailrace.content_store.naming import content_hash, path_of
from tailrace.content_store.store import ContentStore, Stored
from tailrace.dead_letters import dead_letter
from tailrace.errors import ContentMissing, KafkaUnavailable, MissingPackage, TopicMismatch
from tailrace.records import ContentRef, Kind, Stage, TraceEvent
from tests.harness.processes import wait_until

HOUR = 3600.0
NOW = time.time()


class Bench:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.store = ContentStore(Folder(folder))

    def put(self, tenant_id: str | None, data: bytes, hours: float) -> str:
        """Content that was put so many hours ago."""
        name = self.store.put(tenant_id, data)
        at = NOW - hours * HOUR
        os.utime(self.folder / path_of(tenant_id, name), (at, at))
        return name

    def left(self) -> set[str]:
        return {one.hash for one in self.store.names()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "store")


def test_old_content_that_nothing_names_is_deleted_and_the_rest_stays(bench: Bench) -> None:
    young, old, named = (bench.put("t", data, hours) for data, hours in ((b"y", 9), (b"o", 11), (b"n", 11)))
    also_old = bench.put("other", b"o", 11)
    before = NOW - 10 * HOUR
    planned = rules.plan(bench.store.names(), before, [[], [named, young, "sha256:" + "0" * 64]])
    assert (planned.young, planned.named, planned.bytes) == (1, 1, 2)
    assert bench.left() == {young, old, named}, "a plan deletes nothing"
    assert rules.sweep(bench.store, planned, before) == rules.Swept(2, 2, 0, 0)
    assert bench.left() == {young, named}
    assert also_old == old


def test_a_name_spares_the_content_of_every_tenant(bench: Bench) -> None:
    name = bench.put("t", b"same", 11)
    bench.put(None, b"same", 11)
    planned = rules.plan(bench.store.names(), NOW, [[name, name]])
    assert (planned.delete, planned.named) == ([], 2)


def test_content_that_is_put_again_after_it_was_listed_stays(bench: Bench) -> None:
    name = bench.put("t", b"old", 11)
    before = NOW - 10 * HOUR
    planned = rules.plan(bench.store.names(), before, [])
    assert [one.hash for one in planned.delete] == [name]
    bench.store.put("t", b"old")
    assert rules.sweep(bench.store, planned, before) == rules.Swept(0, 0, 1, 0)
    assert bench.left() == {name}


@pytest.mark.parametrize("call", [".stat", ".rename", ".unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_content_that_is_put_at_the_moment_it_is_deleted_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    """A publisher that finds the content does not write it; the sweep has seen it as old."""
    name = bench.put("t", b"old", 11)
    before = NOW - 10 * HOUR
    planned = rules.plan(bench.store.names(), before, [])
    other = ContentStore(Folder(bench.folder))
    real = getattr(Path, call[1:])
    came = False

    def and_a_publisher(path: Path, *arguments: Any, **options: Any) -> Any:
        nonlocal came
        mine = (bench.folder in path.parents) and not came
        if mine and when == "before":
            came = True
            other.put("t", b"old")
        result = real(path, *arguments, **options)
        if mine and when == "after":
            came = True
            other.put("t", b"old")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Path, call[1:], and_a_publisher)
        rules.sweep(bench.store, planned, before)
    assert came
    assert other.get("t", name) == b"old"
    assert bench.store.get("t", name) == b"old"
    assert list((bench.folder / UNFINISHED).iterdir()) == []


def test_sweeps_lose_nothing_that_is_put_at_the_same_time(bench: Bench) -> None:
    """What a put has returned for is younger than `before`, whatever sweeps do meanwhile."""
    path = bench.folder / path_of("t", content_hash(b"old"))
    wrong: list[BaseException] = []
    done = threading.Event()

    def sweep() -> None:
        try:
            while not done.is_set():
                before = time.time() - HOUR
                bench.store.recover()
                rules.sweep(bench.store, rules.plan(bench.store.names(), before, []), before)
        except BaseException as e:
            wrong.append(e)

    def is_there() -> bool:  # it may be set aside for a moment
        try:
            return bench.store.get("t", content_hash(b"old")) == b"old"
        except ContentMissing:
            return False

    sweeps = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in sweeps:
        thread.start()
    try:
        for _ in range(200):
            bench.store.put("t", b"old")
            wait_until(is_there, 20, "it is there")
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (NOW - 9 * HOUR,) * 2)
    finally:
        done.set()
        for thread in sweeps:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("links", [True, False])
def test_what_is_put_back_replaces_nothing_younger(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    name = bench.put("t", b"old", 11)
    path = bench.folder / path_of("t", name)
    aside = bench.folder / UNFINISHED / f"{path_of('t', name).replace('/', '~')}~0123"
    os.link(path, aside)
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path.unlink()
    bench.store.recover()
    assert (path.read_bytes(), list(aside.parent.iterdir())) == (b"old", [])
    path.rename(aside)
    bench.store.put("t", b"old")
    bench.store.recover()
    assert path.stat().st_mtime > NOW - HOUR
    assert list(aside.parent.iterdir()) == []


def test_what_a_killed_sweep_had_set_aside_is_put_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bench.put("Tenant", b"old", 11)
    before = NOW - 10 * HOUR

    def killed(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            rules.sweep(bench.store, rules.plan(bench.store.names(), before, []), before)
    assert bench.left() == set()
    bench.store.recover()
    assert bench.left() == {name}
    assert bench.store.get("Tenant", name) == b"old"
    assert rules.sweep(bench.store, rules.plan(bench.store.names(), before, []), before).deleted == 1
    bench.store.recover()
    assert bench.left() == set()


def test_only_content_is_put_back(bench: Bench) -> None:
    bench.put("t", b"x", 1)
    waiting = bench.folder / UNFINISHED
    names = {"0123abcd", "..~..~outside~0123", "t-t~00~0123", "~~~"}
    for name in names:
        (waiting / name).write_bytes(b"half")
    bench.store.recover()
    assert {path.name for path in waiting.iterdir()} == names
    assert not (bench.folder.parent / "outside").exists()
    assert len(bench.left()) == 1


def test_names_that_cannot_be_read_completely_delete_nothing(bench: Bench) -> None:
    name = bench.put("t", b"old", 11)

    def broken() -> Iterator[str]:
        yield "sha256:" + "0" * 64
        raise KafkaUnavailable("no record arrived")

    with pytest.raises(KafkaUnavailable):
        rules.plan(bench.store.names(), NOW, [broken()])
    assert bench.left() == {name}


def test_content_is_listed_before_names_are_read(bench: Bench) -> None:
    """A dead letter that is written meanwhile names content that was put before its event: it is found."""
    order: list[str] = []

    def stored() -> Iterator[Stored]:
        order.append("content")
        yield from ()

    def names() -> Iterator[str]:
        order.append("names")
        yield from ()

    rules.plan(stored(), NOW, [names()])
    assert order == ["content", "names"]


def test_what_killed_publishers_left_is_removed_when_it_is_old(bench: Bench) -> None:
    bench.put("t", b"x", 1)
    for name, hours in (("a", 11.0), ("b", 1.0)):
        path = bench.folder / UNFINISHED / name
        path.write_bytes(b"half")
        os.utime(path, (NOW - hours * HOUR,) * 2)
    before = NOW - 10 * HOUR
    assert rules.sweep(bench.store, rules.plan(bench.store.names(), before, []), before).unfinished == 1
    assert [p.name for p in (bench.folder / UNFINISHED).iterdir()] == ["b"]


def test_the_lifetime_is_all_that_a_record_may_go_through_and_a_day() -> None:
    day = 24 * 3600 * 1000
    assert rules.lifetime_hours([7 * day, 30 * day], 168.0) == (7 + 30) * 24 + 168 + 24


def test_a_topic_keeps_a_record_for_its_retention_and_the_time_of_its_segment() -> None:
    configs = {
        "a": {"retention.ms": "5", "segment.ms": "3"},
        "b": {"retention.ms": "-1", "segment.ms": "3"},
        "c": {"retention.ms": "5"},
    }
    assert rules.retentions(configs, ["a", "b", "c"]) == [8, -1, 5 + rules.SEGMENT_MS]


def test_a_topic_whose_retention_is_not_known_ends_it() -> None:
    unknown: list[dict[str, dict[str, str]]] = [{}, {"a": {}}, {"a": {"retention.ms": "None"}}]
    for configs in unknown:
        with pytest.raises(TopicMismatch, match="a is missing, or its"):
            rules.retentions(configs, ["a"])


def test_a_source_that_cannot_be_loaded_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Callable[..., Iterable[str]]:
        raise ModuleNotFoundError("No module named 'archive'")

    def found(group: str) -> list[Any]:
        assert group == rules.GROUP
        return [SimpleNamespace(name="archive", load=load)]

    monkeypatch.setattr(rules, "entry_points", found)
    with pytest.raises(MissingPackage, match="archive"):
        rules.sources()


def test_the_dead_letters_are_a_source() -> None:
    assert "dead-letters" in rules.sources()


NAME = st.binary(min_size=1, max_size=9).map(content_hash)


@given(st.lists(NAME, max_size=5), st.binary(max_size=80), st.binary(max_size=80), st.integers(0, 400))
def test_every_name_in_the_bytes_of_a_dead_letter_is_found(
    names: list[str], before: bytes, after: bytes, cut: int
) -> None:
    """Also of an event whose bytes nobody can decode."""
    refs = tuple(ContentRef(field="inputs", tenant_id="t", hash=name, bytes=1) for name in names)
    event = TraceEvent(
        kind=Kind.TOOL,
        event_id="e",
        source_id="s",
        trace_id="t",
        started_at=1_800_000_000_000_000,
        ended_at=1_800_000_000_000_000,
        published_at=1_800_000_000_000_000,
        content_refs=refs,
    )
    raw = before + codec.encode(event) + after
    letter = dead_letter(
        Stage.DECODE,
        "unknown_schema",
        "",
        topic="trace.events",
        partition=0,
        offset=1,
        appended_at=0,
        failed_at=0,
        key=None,
        value=raw,
        keep=10_000,
    )
    assert set(hashes(codec.encode(letter))) >= set(names)
    list(hashes(codec.encode(letter)[cut:]))
    assert list(hashes(None)) == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.floats(0, 20)), max_size=30),
    st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3),
)
def test_a_plan_deletes_exactly_what_is_old_and_not_named(
    contents: list[tuple[int, int, float]], named: list[list[int]]
) -> None:
    stored = [Stored(f"t-{tenant}", f"sha256:{n}", at, 7) for n, tenant, at in contents]
    names = [[f"sha256:{n}" for n in source] for source in named]
    planned = rules.plan(stored, 10.0, names)
    flat = {name for source in names for name in source}
    assert sorted(planned.delete) == sorted(s for s in stored if s.modified_at < 10.0 and s.hash not in flat)
    assert planned.young + planned.named + len(planned.delete) == len(stored)


@given(st.integers(0, (1 << 32) - 1), st.integers(1, 40))
def test_a_plan_holds_a_bounded_number_of_contents_and_says_how_many_are_left(salt: int, most: int) -> None:
    stored = [Stored("t-t", content_hash(b"%d" % n), 1.0, 7) for n in range(60)]
    planned = rules.plan(stored, 10.0, [], most, salt)
    assert len(planned.delete) <= most
    assert len(planned.delete) + planned.more == 60
    assert len(set(planned.delete)) == len(planned.delete)


def test_sweeps_one_after_the_other_look_at_all_content() -> None:
    """Also if most of it is named: each looks at another part."""
    stored = [Stored("t-t", content_hash(b"%d" % n), 1.0, 7) for n in range(60)]
    names = [one.hash for one in stored[:50]]
    left = set(stored)
    for _ in range(10_000):
        left -= set(rules.plan(left, 10.0, [names], 10).delete)
        if len(left) == 50:
            break
    assert left == set(stored[:50])
