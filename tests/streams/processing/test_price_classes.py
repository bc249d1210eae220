"""Calls with token classes and tiers of service are priced as the provider bills them.

The examples are worked out by hand from the providers' own price lists, each named beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice, Tier, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing import prices as module
from streams.processing.money import LIMIT, half_even
from streams.processing.prices import STANDARD, Prices
from streams.processing.providers import normalised
from streams.processing.rates import CLASSES, Counts, Rates, by_library, rates_of
from tailrace.records import TokenClasses

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = (datetime(2026, 11, 20, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
MICRO = 10**6
"""A dollar for a million tokens, for one token, in 1e-12 dollars."""
one = Prices()


def cost(
    model: str, given: int, received: int, at: int = NOW, tier: str | None = None, **classes: int
) -> Any:
    provider, _, name = model.partition("/")
    return one.estimate(
        provider.encode(),
        name.encode(),
        given,
        received,
        at,
        TokenClasses(**classes) if classes else None,
        None if tier is None else tier.encode(),
    )


# -- recorded examples
def test_openai_bills_cached_input_at_a_quarter() -> None:
    """https://developers.openai.com/api/docs/pricing: gpt-4.1, a million tokens: input $2.00, cached input
    $0.50, output $8.00. Reasoning is billed as output."""
    by_hand = 2_000 * 2_000_000 + 8_000 * 500_000 + 500 * 8_000_000  # 0.004 + 0.004 + 0.004 dollars
    assert by_hand == 12 * 10**9
    assert cost("openai/gpt-4.1", 10_000, 500, cache_read=8_000) == by_hand
    assert cost("openai/gpt-4.1", 10_000, 500, cache_read=8_000, reasoning=300) == by_hand
    assert cost("openai/gpt-4.1", 10_000, 500) == 10_000 * 2_000_000 + 500 * 8_000_000


def test_openai_bills_audio_by_itself() -> None:
    """https://developers.openai.com/api/docs/models/gpt-realtime, a million tokens: text $4.00, cached text
    $0.40, output $16.00; audio $32.00, cached audio $0.40, output $64.00; images $5.00, cached $0.50."""
    found = cost(
        "openai/gpt-realtime",
        1_000,
        300,
        cache_read=500,
        input_audio=600,
        cache_read_audio=400,
        output_audio=250,
    )
    text = 300 * 4_000_000 + 100 * 400_000 + 50 * 16_000_000
    audio = 200 * 32_000_000 + 400 * 400_000 + 250 * 64_000_000
    assert found == text + audio
    with_image = cost("openai/gpt-realtime", 1_000, 0, input_image=400, cache_read=700)
    # 100 of the images must be cached: there are only 600 other tokens
    assert with_image == 600 * 400_000 + 100 * 500_000 + 300 * 5_000_000


def test_anthropic_bills_writes_by_their_lifetime() -> None:
    """https://platform.claude.com/docs/en/about-claude/pricing: Claude Sonnet 4.5, a million tokens: input
    $3.00, writes for 5 minutes $3.75, for an hour $6.00, reads $0.30, output $15.00."""
    found = cost(
        "anthropic/claude-sonnet-4-5",
        21_000,
        1_000,
        cache_read=15_000,
        cache_write=5_000,
        cache_write_1h=2_000,
    )
    by_hand = (
        1_000 * 3_000_000 + 15_000 * 300_000 + 3_000 * 3_750_000 + 2_000 * 6_000_000 + 1_000 * 15_000_000
    )  # 0.003 + 0.0045 + 0.01125 + 0.012 + 0.015 dollars
    assert by_hand == 45_750_000_000
    assert found == by_hand
    without_lifetime = cost(
        "anthropic/claude-sonnet-4-5", 21_000, 1_000, cache_read=15_000, cache_write=5_000
    )
    assert without_lifetime == by_hand - 2_000 * (6_000_000 - 3_750_000)


def test_google_bills_cached_and_audio_input_by_the_size_of_the_prompt() -> None:
    """https://ai.google.dev/gemini-api/docs/pricing, a million tokens. Gemini 2.5 Flash: text, image and
    video $0.30, audio $1.00, cached $0.03, cached audio $0.10, output (with thinking) $2.50. Gemini 2.5 Pro
    to 200,000 tokens: $1.25, cached $0.125, output $10.00; above: $2.50, $0.25, $15.00."""
    found = cost(
        "google/gemini-2.5-flash",
        50_000,
        2_000,
        cache_read=30_000,
        input_audio=12_000,
        cache_read_audio=10_000,
        reasoning=1_500,
    )
    by_hand = 18_000 * 300_000 + 2_000 * MICRO + 20_000 * 30_000 + 10_000 * 100_000 + 2_000 * 2_500_000
    assert found == by_hand
    small = cost("google/gemini-2.5-pro", 200_000, 1_000, cache_read=150_000)
    assert small == 50_000 * 1_250_000 + 150_000 * 125_000 + 1_000 * 10_000_000
    large = cost("google/gemini-2.5-pro", 200_001, 1_000, cache_read=150_000)
    assert large == 50_001 * 2_500_000 + 150_000 * 250_000 + 1_000 * 15_000_000


def test_a_batch_costs_half() -> None:
    """https://platform.claude.com/docs/en/build-with-claude/batch-processing#pricing: 50 % of the standard
    price; the cache's multipliers are of that."""
    usage: dict[str, Any] = {"cache_read": 15_000, "cache_write": 5_000, "cache_write_1h": 2_000}
    whole = cost("anthropic/claude-haiku-4-5", 21_000, 1_000, **usage)
    assert (
        whole == 1_000 * MICRO + 15_000 * 100_000 + 3_000 * 1_250_000 + 2_000 * 2 * MICRO + 1_000 * 5 * MICRO
    )
    assert cost("anthropic/claude-haiku-4-5", 21_000, 1_000, tier="batch", **usage) == whole // 2


def test_priority_costs_more() -> None:
    """https://developers.openai.com/api/docs/pricing, priority: gpt-4.1, a million tokens: input $3.50,
    cached input $0.875, output $14.00."""
    found = cost("openai/gpt-4.1", 10_000, 500, tier="priority", cache_read=8_000)
    assert found == 2_000 * 3_500_000 + 8_000 * 875_000 + 500 * 14_000_000
    assert cost("openai/gpt-4.1", 10_000, 500, tier=" Priority ") == 10_000 * 3_500_000 + 500 * 14_000_000


# -- tiers
@pytest.mark.parametrize("tier", sorted(STANDARD))
def test_a_standard_tier_has_the_usual_price(tier: str) -> None:
    for model in ("openai/gpt-4.1", "anthropic/claude-sonnet-4-5", "deepseek/deepseek-chat"):
        assert cost(model, 1000, 100, tier=tier, cache_read=10) == cost(model, 1000, 100, cache_read=10)


def test_a_tier_that_the_table_does_not_have_is_not_guessed() -> None:
    assert cost("openai/gpt-4.1", 1000, 100, tier="scale") is None
    assert cost("mistral/mistral-large-latest", 1000, 100, tier="priority") is None
    assert cost("openai/gpt-4.1", 1000, 100, tier="x" * 10_000) is None
    before = (datetime(2026, 10, 11, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert cost("openai/gpt-4.1", 1000, 100, before, tier="priority") is None
    assert cost("openai/gpt-4.1", 1000, 100, before, tier="default") == cost("openai/gpt-4.1", 1000, 100)


def test_another_providers_tiers_do_not_apply() -> None:
    """Azure sells OpenAI's models, at prices of its own."""
    assert cost("azure/gpt-4.1", 1000, 100) is not None
    azure = next(p for p in providers if p.id == "azure")
    if not any(m.is_match("gpt-4.1") for m in azure.models):
        assert cost("azure/gpt-4.1", 1000, 100, tier="priority") is None


TIERED = [
    (p.id, m.id, value)
    for p in providers
    for m in p.models
    for v in m.price_variants or ()
    for key, value in v.when.items()
    if len(v.when) == 1 and key in ("service_tier", "processing", "speed")
]


@given(st.sampled_from(TIERED), st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_a_tiers_price_is_the_librarys(which: tuple[str, str, str], n: int, m: int, read: int) -> None:
    provider, name, tier = which
    _, model = normalised(provider.encode(), name.encode())
    at = (datetime(2027, 6, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert model is not None
    read = n * read // 100
    found = one.estimate(
        provider.encode(), name.encode(), n, m, at, TokenClasses(cache_read=read), tier.encode()
    )
    try:
        with localcontext(prec=60):
            price = genai_prices.calc_price(
                genai_prices.Usage(
                    input_tokens=n,
                    output_tokens=m,
                    cache_read_tokens=read,
                    cache_audio_read_tokens=0,
                    cache_image_read_tokens=0,
                ),
                model.decode(),
                provider_id=provider,
                genai_request_timestamp=EPOCH + timedelta(microseconds=at),
                price_context=dict.fromkeys(("service_tier", "processing", "speed"), tier),
            )
    except LookupError:
        assert found is None
        return
    charged = {k for k, v in vars(price.model_price).items() if v is not None}
    if n + m == 0 or not charged & {"input_mtok", "output_mtok"}:
        assert found is None
    else:
        total = price.total_price
        assert found == half_even(*(total * 10**12).as_integer_ratio())


# -- the model that answered
def test_the_model_that_answered_counts_if_the_table_has_it() -> None:
    def answer(model: bytes | None, answered: bytes | None = None) -> int | None:
        return one.estimate(b"openai", model, 1000, 100, NOW, answered=answered)

    cheap = answer(b"gpt-4.1-mini")
    assert cheap is not None
    assert answer(b"gpt-4.1", b"gpt-4.1-mini-2025-04-14") == cheap
    assert answer(b"our-deployment", b"gpt-4.1-mini") == cheap
    assert answer(None, b"gpt-4.1-mini") == cheap
    assert answer(b"gpt-4.1-mini", b"no-such-model") == cheap
    assert answer(b"no-such-model", b"nor-this") is None


# -- in integers
def test_every_price_of_the_table_is_computed_in_integers_with_classes() -> None:
    rates = [rates_of(c.prices) for p in providers for m in p.models for c in module._prices(m)]
    assert all(r is None or (r.steps and r.classed) for r in rates)
    variants = [rates_of(v.prices) for p in providers for m in p.models for v in m.price_variants or ()]
    assert all(r is None or r.classed for r in variants)


amounts = st.decimals(0, 1000, places=6)


@given(
    st.tuples(*[st.none() | amounts for _ in CLASSES]),
    amounts,
    amounts,
    st.integers(0, 300_000),
    st.integers(0, 500_000),
    st.lists(st.integers(0, 100), min_size=12, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_classes_are_priced_as_the_library_prices_them(
    optional: tuple[Decimal | None, ...], a: Decimal, b: Decimal, start: int, n: int, shares: list[int]
) -> None:
    priced = {c.price: p for c, p in zip(CLASSES, optional, strict=True)}
    if priced["cache_write_mtok"] is None:
        priced["cache_write_1h_mtok"] = None
    for own, other, both in (
        ("cache_read_mtok", "input_audio_mtok", "cache_audio_read_mtok"),
        ("cache_read_mtok", "input_image_mtok", "cache_image_read_mtok"),
    ):
        if priced[own] is None or priced[other] is None:
            priced[both] = None
        elif priced[both] is None:
            priced[both] = a
    if priced["cache_write_mtok"] is not None:  # the table has no model that needs their common price
        priced |= dict.fromkeys(("input_audio_mtok", "input_image_mtok"))
        priced |= dict.fromkeys(("cache_audio_read_mtok", "cache_image_read_mtok"))
    if priced["output_reasoning_mtok"] is not None:
        priced |= dict.fromkeys(("output_audio_mtok", "output_image_mtok"))
    price = ModelPrice(
        input_mtok=TieredPrices(a, [Tier(start, b)]),
        output_mtok=b,
        **{k: None if p is None else TieredPrices(p, [Tier(start + 5, a)]) for k, p in priced.items()},
    )
    rates = Rates(price)
    assert rates.steps
    assert rates.classed
    parts = [share * n // sum(shares) if sum(shares) else 0 for share in shares]
    text, read, write, hour, audio, image, read_audio, read_image, thought, spoken, drawn, plain = parts
    counts = Counts(
        read + read_audio + read_image,
        write + hour,
        hour,
        audio + read_audio,
        image + read_image,
        read_audio,
        read_image,
        thought,
        spoken,
        drawn,
    )
    counts = Counts(*(n * p for n, p in zip(counts, rates.priced, strict=True)))
    given_in, made = text + sum(parts[1:8]), thought + spoken + drawn + plain
    assert rates.units(given_in, made, counts) == by_library(price, given_in, made, counts)


def test_more_classes_than_tokens_have_no_estimate() -> None:
    assert cost("openai/gpt-realtime", 100, 0, cache_read=60, input_audio=60, cache_read_audio=0) is None
    assert cost("openai/gpt-realtime", 100, 0, cache_read=60, input_audio=60) is not None
    assert cost("openai/gpt-realtime", 0, 100, output_audio=101) is None


classes = st.fixed_dictionaries(
    dict.fromkeys(TokenClasses.__struct_fields__, st.none() | st.integers(0, 2**40))
)


@given(
    st.sampled_from(["openai/gpt-realtime", "anthropic/claude-sonnet-4-5"]), classes, st.integers(0, 2**40)
)
@settings(max_examples=200, deadline=None)
def test_an_estimate_is_never_negative_and_never_raises(model: str, c: dict[str, Any], n: int) -> None:
    provider, _, name = model.partition("/")
    found = one.estimate(provider.encode(), name.encode(), n, n, NOW, TokenClasses(**c))
    assert found is None or 0 <= found < LIMIT
