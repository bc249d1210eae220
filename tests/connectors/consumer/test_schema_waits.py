"""How long an unknown schema is waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.consumer.schema_waits import SchemaWaits


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 20)), max_size=60), st.floats(0, 60))
def test_each_schema_is_waited_for_once(records: list[tuple[str, float]], seconds: float) -> None:
    waits, now, first = SchemaWaits(seconds), 0.0, dict[str, float]()
    for schema, pause in records:
        now += pause
        assert waits.first(schema) == (schema not in first)
        first.setdefault(schema, now)
        assert waits.waiting(schema, now) == (now < first[schema] + seconds)


def test_one_that_becomes_known_is_waited_for_again_if_it_gets_lost() -> None:
    waits = SchemaWaits(60)
    assert waits.waiting("a", 0)
    assert not waits.waiting("a", 60)
    waits.known("a")
    assert waits.waiting("a", 70)
    assert not waits.waiting("a", 130)
    waits.known("never seen")
