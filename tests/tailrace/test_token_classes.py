"""What a publisher may say of tokens by class: a class is part of a total, never beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import codec
from tailrace.errors import InvalidEvent
from tailrace.identity import complete
from tailrace.records import Kind, SpanKind, TokenClasses, TraceEvent
from tailrace.token_classes import check, plausible

NOW = 1_763_700_000_000_000
NAMES = TokenClasses.__struct_fields__


def event(given: Any = 1000, received: Any = 100, **classes: Any) -> TraceEvent:
    return TraceEvent(
        kind=Kind.SPAN,
        span_kind=SpanKind.LLM,
        started_at=NOW,
        ended_at=NOW + 1,
        input_tokens=given,
        output_tokens=received,
        token_classes=TokenClasses(**classes),
    )


@pytest.mark.parametrize(
    ("wrong", "field", "problem"),
    [
        (
            event(100, cache_read=900),
            "cache_read",
            "is 900, more than input_tokens 100: input_tokens must include it",
        ),
        (
            event(None, cache_read=9),
            "cache_read",
            "is 9, but input_tokens is missing: set input_tokens, which must include it",
        ),
        (
            event(received=None, reasoning=9),
            "reasoning",
            "is 9, but output_tokens is missing: set output_tokens, which must include it",
        ),
        (
            event(received=5, output_audio=6),
            "output_audio",
            "is 6, more than output_tokens 5: output_tokens must include it",
        ),
        (
            event(cache_read=600, cache_write=500),
            "cache_read",
            "and cache_write are 1100 together, more than input_tokens 1000: input_tokens must include both",
        ),
        (
            event(input_audio=600, input_image=401),
            "input_audio",
            "and input_image are 1001 together, more than input_tokens 1000: input_tokens must include both",
        ),
        (
            event(cache_write=5, cache_write_1h=6),
            "cache_write_1h",
            "is 6, more than cache_write 5: cache_write must include it",
        ),
        (
            event(cache_write_1h=6),
            "cache_write_1h",
            "is 6, more than cache_write 0: cache_write must include it",
        ),
        (
            event(cache_read=5, input_audio=50, cache_read_audio=6),
            "cache_read_audio",
            "is 6, more than cache_read 5: cache_read must include it",
        ),
        (
            event(cache_read=50, input_audio=5, cache_read_audio=6),
            "cache_read_audio",
            "is 6, more than input_audio 5: input_audio must include it",
        ),
        (event(input_image=-1), "input_image", "is -1; a count is 0 or more"),
        (event(cache_read="9"), "cache_read", "is str '9', must be an integer of 64 bits or None"),
        (event(cache_read=True), "cache_read", "is bool True, must be an integer of 64 bits or None"),
    ],
)
def test_a_class_that_does_not_fit_is_refused_with_its_name_and_the_fix(
    wrong: TraceEvent, field: str, problem: str
) -> None:
    with pytest.raises(InvalidEvent) as e:
        complete(wrong, NOW)
    assert (e.value.field, e.value.problem) == (f"token_classes.{field}", problem)


def test_something_else_than_classes_is_refused() -> None:
    wrong: Any = {"cache_read": 5}
    with pytest.raises(
        InvalidEvent, match=r"token_classes: is dict\b.*, must be a tailrace.TokenClasses or None"
    ):
        complete(TraceEvent(kind=Kind.SPAN, started_at=NOW, ended_at=NOW, token_classes=wrong), NOW)


def test_a_total_of_a_wrong_type_is_named_itself() -> None:
    with pytest.raises(InvalidEvent) as e:
        codec.encode(complete(event("1000", cache_read=5), NOW))
    assert e.value.field == "input_tokens"


def test_classes_that_are_part_of_their_totals_are_published() -> None:
    full = event(
        cache_read=400,
        cache_write=300,
        cache_write_1h=300,
        reasoning=60,
        input_audio=500,
        input_image=500,
        cache_read_audio=400,
        output_audio=50,
        output_image=50,
    )
    published = codec.decode(codec.encode(complete(full, NOW)), TraceEvent)
    assert published.token_classes == full.token_classes
    assert complete(event(None, None, cache_read=0), NOW).token_classes == TokenClasses(cache_read=0)


counts = st.none() | st.integers(0, 12) | st.integers(-3, 2**63 - 1)


@given(counts, counts, st.fixed_dictionaries(dict.fromkeys(NAMES, counts)))
def test_the_processor_ignores_what_the_publisher_refuses(
    total_in: int | None, total_out: int | None, classes: dict[str, int | None]
) -> None:
    e = event(total_in, total_out, **classes)
    assert e.token_classes is not None
    try:
        check(e)
        accepted = True
    except InvalidEvent:
        accepted = False
    assert accepted == plausible(total_in, total_out, e.token_classes)
