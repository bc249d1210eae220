"""Which records wait for their schema, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace import codec
from tailrace.codec import schemas
from tailrace.codec.schemas import id_frame
from tailrace.schema_registry.schema_wait import MAX_FRAMES, SchemaWaitPolicy, name_of
from tests.streams.events import Source as Record
from tests.streams.events import event
from tests.tailrace.schema_source import SchemaSource

VALUE = codec.encode(event())


class Source(SchemaSource):
    def learn(self, frame: bytes) -> None:
        self.resolver.add(frame, schemas.known.find(VALUE[:10]))


def record(offset: int, frame: bytes | None = None) -> Record:
    """A record whose schema `frame` names. None: our own schema."""
    return Record(offset, 1, b"k", (VALUE[:10] if frame is None else frame) + VALUE[10:])


def policy(source: Source, seconds: float = 60.0) -> SchemaWaitPolicy:
    return SchemaWaitPolicy(source, source.resolver.knows, seconds)


def test_a_frame_waits_once() -> None:
    source = Source()
    rule, seven = policy(source), id_frame(7)
    assert rule.waits(seven, 100.0)
    assert rule.waits(seven, 159.9)
    assert not rule.waits(seven, 160.0)
    assert not rule.waits(seven, 1e9)
    assert rule.waits(id_frame(8), 1e9)
    source.learn(seven)
    assert not rule.waits(seven, 1e9)


def test_what_the_registry_lacks_does_not_wait() -> None:
    source = Source()
    rule = policy(source)
    assert rule.waits(id_frame(7), 0.0)
    source.lacks.add(id_frame(7))
    assert not rule.waits(id_frame(7), 0.1)
    source.lacks.clear()
    assert not rule.waits(id_frame(7), 0.2)  # later records of it neither


def test_a_schema_that_was_given_up_is_requested_again_and_waits_for_one_answer() -> None:
    """A dead letter that is published again finds its schema once the registry has it."""
    source = Source()
    rule = policy(source)
    source.lacks.add(id_frame(7))
    assert not rule.waits(id_frame(7), 0.0)
    source.wanted.clear()
    source.fetching.add(id_frame(7))
    assert rule.waits(id_frame(7), 500.0)
    assert source.wanted == [id_frame(7)]
    source.fetching.clear()
    assert not rule.waits(id_frame(7), 500.1)


def test_the_first_record_that_waits_is_found() -> None:
    source = Source()
    rule = policy(source)
    fine = [
        record(0),
        Record(1, 1, None, None),
        Record(2, 1, None, b""),
        Record(3, 1, None, b"{}"),
        record(4),
    ]
    assert rule.first(fine, 0.0) == 5
    assert rule.first([*fine, record(5, id_frame(7)), record(6)], 0.0) == 5
    assert rule.first([record(5, b"\xc3\x01" + b"\xaa" * 8)], 0.0) == 0
    assert rule.frames([*fine, record(5, id_frame(7)), record(6, id_frame(8))], 0.0) == {
        id_frame(7),
        id_frame(8),
    }
    source.learn(id_frame(7))
    for _ in range(2):
        assert rule.first([record(5, id_frame(7)), record(6)], 0.0) == 2


def test_waits_for_unknown_frames_are_bounded() -> None:
    rule = policy(Source())
    assert all(rule.waits(id_frame(n), 0.0) for n in range(MAX_FRAMES))
    assert not rule.waits(id_frame(MAX_FRAMES), 0.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20)), max_size=60), st.floats(0, 60))
def test_each_schema_is_waited_for_once(records: list[tuple[int, float]], seconds: float) -> None:
    """Without a registry, too."""
    source, now, first = Source(), 0.0, dict[bytes, float]()
    rules = [policy(source, seconds), SchemaWaitPolicy(None, source.resolver.knows, seconds)]
    for n, pause in records:
        now += pause
        frame = id_frame(n)
        assert [rule.remembers(frame) for rule in rules] == [frame in first] * 2
        first.setdefault(frame, now)
        assert [rule.waits(frame, now) for rule in rules] == [now < first[frame] + seconds] * 2


def test_a_frame_is_named_by_what_it_holds() -> None:
    assert name_of(id_frame(70_000)) == "id 70000"
    assert name_of(b"\xc3\x01" + bytes(range(8))) == "fingerprint 0001020304050607"
