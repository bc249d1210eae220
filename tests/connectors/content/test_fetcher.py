"""The fetcher: one request for the same content, a cache in bytes, outages, threads that hang."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.content import refs
from connectors.content.fetcher import RETRY, ContentFetcher, Fetch, Key
from tailrace.content_store.naming import content_hash
from tests.connectors.content.stores import FakeStore
from tests.harness.processes import wait_until

SECONDS = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.release.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fetcher(store: FakeStore, clock: Clock) -> Iterator[ContentFetcher]:
    made = ContentFetcher(store, seconds=SECONDS, cache_bytes=100, most=1000, readers=2, clock=clock)
    yield made
    made.close()


def key(data: bytes, tenant_id: str | None = "tenant") -> Key:
    return (tenant_id, content_hash(data), len(data))


def put(store: FakeStore, data: bytes, tenant_id: str | None = "tenant") -> Key:
    store.put(tenant_id, data)
    return key(data, tenant_id)


def ask(fetcher: ContentFetcher, clock: Clock, of: Key) -> Fetch:
    return fetcher.fetch(of, clock.now, fetcher.until(clock.now))


def landed(fetch: Fetch) -> Fetch:
    wait_until(lambda: not fetch.flying, 20, "the store's answer")
    return fetch


def test_content_comes_and_the_next_time_from_the_cache(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    of = put(store, b"content")
    assert landed(ask(fetcher, clock, of)).data == b"content"
    again = ask(fetcher, clock, of)
    assert (again.data, again.flying) == (b"content", False)
    assert sum(store.asked.values()) == 1


def test_a_request_that_is_made_already_is_shared(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    of = put(store, b"content")
    store.hangs = lambda tenant_id: True
    first = ask(fetcher, clock, of)
    assert ask(fetcher, clock, of) is first
    store.release.set()
    assert landed(first).data == b"content"
    assert sum(store.asked.values()) == 1


def test_the_cache_keeps_what_was_used_last_within_its_bytes(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    a, b, c = (put(store, letter * 40) for letter in (b"a", b"b", b"c"))
    landed(ask(fetcher, clock, a))
    landed(ask(fetcher, clock, b))
    assert ask(fetcher, clock, a).data is not None
    landed(ask(fetcher, clock, c))  # b was not used for longest
    assert fetcher.cached == 80
    assert (ask(fetcher, clock, a).data, ask(fetcher, clock, c).data) == (b"a" * 40, b"c" * 40)
    assert landed(ask(fetcher, clock, b)).data == b"b" * 40
    assert store.asked["tenant", b[1]] == 2
    large = put(store, b"x" * 101)
    assert landed(ask(fetcher, clock, large)).data == b"x" * 101
    assert fetcher.cached == 80


def test_tenants_do_not_share_what_is_cached(store: FakeStore, fetcher: ContentFetcher, clock: Clock) -> None:
    landed(ask(fetcher, clock, put(store, b"content")))
    other = landed(ask(fetcher, clock, key(b"content", "other")))
    assert (other.data, other.reason) == (None, refs.MISSING)


def test_missing_and_damaged_content_are_answers(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    missing = landed(ask(fetcher, clock, key(b"nothing")))
    of = put(store, b"content")
    store.damaged.add(of[1])
    damaged = landed(ask(fetcher, clock, of))
    longer = landed(ask(fetcher, clock, (of[0], put(store, b"longer")[1], 3)))
    assert [f.reason for f in (missing, damaged, longer)] == [refs.MISSING, refs.DAMAGED, refs.DAMAGED]
    assert all(f.final for f in (missing, damaged, longer))


def test_a_store_that_fails_is_asked_again_until_the_record_goes_on(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tailrace.connect.content")
    of = put(store, b"content")
    store.failing = True
    fetch = landed(ask(fetcher, clock, of))
    assert (fetch.reason, fetch.final) == (refs.UNREACHABLE, False)
    fetcher.again(fetch, clock.now)
    assert not fetch.flying, "not before its time"
    for _ in range(3):
        clock.now += RETRY
        fetcher.again(fetch, clock.now)
        landed(fetch)
    assert store.asked["tenant", of[1]] == 4
    assert fetcher.late(fetch) == refs.UNREACHABLE
    store.failing = False
    clock.now += RETRY
    fetcher.again(fetch, clock.now)
    assert landed(fetch).data == b"content"
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2, said
    assert "does not answer: content.store cannot be read: it is away. Records go on" in said[0]
    assert "answers again" in said[1]


def test_the_text_of_any_other_error_is_not_shown(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(tenant_id: str | None) -> bool:
        raise RuntimeError("https://user:secret@host")

    store.hangs = refuse
    assert landed(ask(fetcher, clock, put(store, b"content"))).reason == refs.UNREACHABLE
    assert "does not answer: RuntimeError. Records go on" in caplog.text
    assert "secret" not in caplog.text


def test_content_that_alone_cannot_be_read_costs_the_others_nothing(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One file without permissions, for example. The others wait in full, and the log is not filled."""
    broken = put(store, b"broken")
    store.broken.add(broken[1])
    fetch = ask(fetcher, clock, broken)
    landed(fetch)
    clock.now += 0.1
    for n in range(15):
        other = ask(fetcher, clock, put(store, b"%d" % n))
        assert landed(other).data == b"%d" % n
        clock.now += RETRY
        fetcher.again(fetch, clock.now)
        landed(fetch)
        assert fetcher.until(clock.now) == clock.now + SECONDS
    assert fetcher.late(fetch) == refs.UNREACHABLE
    assert fetcher.until(clock.now) == clock.now + SECONDS
    assert len(caplog.records) == 2, caplog.text


def test_outages_that_follow_each_other_are_said_once_a_minute(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(20):
        store.failing = True
        landed(ask(fetcher, clock, put(store, b"%d away" % n)))
        clock.now += SECONDS
        store.failing = False
        landed(ask(fetcher, clock, put(store, b"%d" % n)))
        clock.now += 0.5
    assert 2 * 3 <= len(caplog.records) <= 2 * 4, caplog.text


def test_after_the_deadline_of_an_outage_only_a_probe_is_made(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    store.failing = True
    keys = [put(store, b"%d" % i) for i in range(4)]
    landed(ask(fetcher, clock, keys[0]))
    clock.now += SECONDS
    assert landed(ask(fetcher, clock, keys[1])).began, "a probe"
    clock.now += 0.1
    skipped = ask(fetcher, clock, keys[2])
    assert (skipped.began, fetcher.late(skipped)) == (0.0, refs.UNREACHABLE)
    assert store.asked["tenant", keys[2][1]] == 0
    store.failing = False
    clock.now += SECONDS
    assert landed(ask(fetcher, clock, keys[3])).data == b"3"
    assert landed(ask(fetcher, clock, keys[2])).data == b"2", "the probe has ended the outage"


def test_requests_that_hang_take_their_readers_only(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    store.hangs = lambda tenant_id: tenant_id == "slow"
    slow = ask(fetcher, clock, put(store, b"slow", "slow"))
    quick = landed(ask(fetcher, clock, put(store, b"quick")))
    assert quick.data == b"quick"
    assert slow.flying
    clock.now += SECONDS
    assert fetcher.late(slow) == refs.LATE


def test_what_nobody_waits_for_any_longer_is_not_asked_for(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    store.hangs = lambda tenant_id: tenant_id == "slow"
    slow = [ask(fetcher, clock, put(store, b"%d" % i, "slow")) for i in range(2)]
    behind = ask(fetcher, clock, put(store, b"behind"))
    wait_until(lambda: sum(store.asked.values()) == 2, 20, "both readers hang")
    clock.now += SECONDS + 1
    store.release.set()
    for fetch in (*slow, behind):
        landed(fetch)
    assert store.asked["tenant", behind.key[1]] == 0
    assert behind.data is None


def test_whoever_listens_is_woken_by_each_answer(
    store: FakeStore, fetcher: ContentFetcher, clock: Clock
) -> None:
    woken: list[Any] = []
    fetcher.listen(lambda: woken.append(1))
    landed(ask(fetcher, clock, put(store, b"content")))
    landed(ask(fetcher, clock, key(b"nothing")))
    wait_until(lambda: len(woken) == 2, 20, "both wakes")
