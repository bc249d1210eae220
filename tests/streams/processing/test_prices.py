"""Price estimates equal the library's to the unit, without its guesses, its caches or the network."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.processing import prices as module
from streams.processing.money import LIMIT
from streams.processing.prices import IDS, TOKENS, Prices
from streams.processing.providers import ALIASES, normalised
from streams.processing.rates import by_library as price_by_library
from streams.processing.rates import rates_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDE = Context(prec=60)
NOW = 1_790_000_000_000_000
MODELS = [(p.id, m.id) for p in providers for m in p.models]
DATED = [(p.id, m.id) for p in providers for m in p.models if isinstance(m.prices, list)]
STARTS = {
    t.start
    for p in providers
    for m in p.models
    for c in module._prices(m)
    for v in vars(c.prices).values()
    if isinstance(v, TieredPrices)
    for t in v.tiers
}
BY_TIME = [
    (p.id, m.id)
    for p in providers
    for m in p.models
    if any(isinstance(c.constraint, TimeOfDateConstraint) for c in module._prices(m))
]

edges = st.sampled_from(sorted({n for s in STARTS for n in (s, s + 1)} | {0, 1, TOKENS}))
counts = edges | st.integers(0, 2_000_000) | st.integers(0, TOKENS)
times = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1)).map(
    lambda t: (t.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
)
one = Prices()


def units(total: Decimal) -> int | None:
    with localcontext(WIDE):
        found = int(total.scaleb(12).to_integral_value(ROUND_HALF_EVEN))
    return found if found < LIMIT else None


def by_library(provider: str | None, model: str, n: int, m: int, at_us: int) -> int | None:
    with localcontext(WIDE):
        found = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=n, output_tokens=m),
            model,
            provider_id=provider,
            genai_request_timestamp=EPOCH + timedelta(microseconds=at_us),
        )
    charged = {k for k, v in vars(found.model_price).items() if v is not None}
    return units(found.total_price) if not charged or charged & {"input_mtok", "output_mtok"} else None


@given(st.sampled_from(MODELS) | st.sampled_from(DATED) | st.sampled_from(BY_TIME), counts, counts, times)
@settings(max_examples=600, deadline=None)
@example(("google", "gemini-2.5-pro"), 200_000, 1000, NOW)
@example(("google", "gemini-2.5-pro"), 200_001, 1000, NOW)
@example(("perplexity", "sonar"), 10, 10, NOW)
@example(("huggingface_together", "Qwen/Qwen3-VL-8B-Instruct"), 1_234_567, 7, NOW)
@example(("openai", "whisper-1"), 10, 10, NOW)
def test_an_estimate_is_the_librarys_price_rounded_once(
    which: tuple[str, str], n: int, m: int, at_us: int
) -> None:
    provider, name = which
    _, model = normalised(provider.encode(), name.encode())
    assert model is not None
    found = one.estimate(provider.encode(), name.encode(), n, m, at_us)
    if n + m == 0:
        assert found is None
        return
    try:
        expected = by_library(provider, model.decode(), n, m, at_us)
    except LookupError:
        expected = None
    assert found == expected


def test_every_price_of_the_table_is_computed_in_integers() -> None:
    rates = [rates_of(c.prices) for p in providers for m in p.models for c in module._prices(m)]
    assert len(rates) > 2000
    assert all(r is None or r.steps for r in rates)


@given(
    st.decimals(0, 1000, places=9),
    st.decimals(0, 1000, places=9),
    st.decimals(0, 1000, places=18),
    st.integers(0, 300_000),
    counts,
    counts,
)
@settings(max_examples=200, deadline=None)
def test_tiers_are_the_librarys(a: Decimal, b: Decimal, c: Decimal, start: int, n: int, m: int) -> None:
    tiers = [Tier(start, b), Tier(start + 1000, c)]
    price = ModelPrice(
        input_mtok=TieredPrices(a, tiers),
        output_mtok=TieredPrices(b, [Tier(start + 1, a), Tier(start + 7, c)]),
    )
    rates = rates_of(price)
    assert rates is not None
    assert rates.steps
    for count in {n, start, start + 1, start + 2, start + 7, start + 8, start + 1000, start + 1001}:
        assert rates.units(count, m) == price_by_library(price, count, m)


def test_a_price_that_is_computed_in_another_way_is_the_librarys() -> None:
    class Doubled(ModelPrice):
        def calc_price(self, usage: object) -> Any:
            found = super().calc_price(usage)
            return {**found, "total_price": found["total_price"] * 2}

    rates = rates_of(Doubled(input_mtok=Decimal(3), output_mtok=Decimal(15)))
    assert rates is not None
    assert rates.steps == ()
    assert rates.units(1_000_000, 0) == 6 * 10**12


def test_each_id_is_in_the_table_and_each_id_of_the_table_is_reached() -> None:
    ids = {p.id for p in providers}
    assert set(IDS.values()) <= ids
    assert {i for i in ids if module._IDS.get(normalised(i.encode(), None)[0] or b"") != i} == set()
    assert {n for n in ALIASES if n not in module._IDS} == {b"ibm.watsonx.ai"}


def test_no_model_of_the_table_loses_a_part_of_its_name() -> None:
    changed = {(p, m) for p, m in MODELS if normalised(p.encode(), m.encode())[1] != m.encode()}
    assert changed == set()


@pytest.mark.parametrize(
    ("provider", "model", "id_", "ref"),
    [
        ("langgenius/openai/openai", "gpt-4o", "openai", "gpt-4o"),
        ("openai", "openai/gpt-4o", "openai", "gpt-4o"),
        (
            "langgenius/bedrock/bedrock",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
            "aws",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        ),
        ("langgenius/azure_openai/azure_openai", "gpt-4o", "azure", "gpt-4o"),
        ("langgenius/vertex_ai/vertex_ai", "gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("langgenius/gemini/google", "models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("langgenius/openrouter/openrouter", "openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ("langgenius/mistralai/mistralai", "mistral-large-latest", "mistral", "mistral-large-latest"),
        ("langgenius/x/x", "grok-3", "x-ai", "grok-3"),
        ("groq", "openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        (None, "gpt-4o", None, "gpt-4o"),
    ],
)
def test_names_as_applications_write_them(
    provider: str | None, model: str, id_: str | None, ref: str
) -> None:
    raw = None if provider is None else provider.encode(), model.encode()
    found = Prices().estimate(*raw, 1234, 567, NOW)
    assert found is not None
    assert found == by_library(id_, ref, 1234, 567, NOW)
    assert found == Prices().estimate(*normalised(*raw), 1234, 567, NOW)


def test_a_price_at_a_time() -> None:
    def at(hour: int, minute: int) -> int | None:
        t = (datetime(2025, 6, 1, hour, minute, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
        return one.estimate(b"deepseek", b"deepseek-chat", 1_000_000, 0, t)

    assert (at(0, 29), at(0, 30), at(16, 29), at(16, 30)) == (
        135 * 10**9,
        27 * 10**10,
        27 * 10**10,
        135 * 10**9,
    )


zones = st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
of_day = st.sampled_from([time(0), time(0, 0, 1), time(23, 59, 59, 999999)]) | st.times()
constraints = (
    st.none()
    | st.builds(StartDateConstraint, st.dates(date(2026, 1, 1), date(2026, 1, 4)))
    | st.builds(TimeOfDateConstraint, *[st.builds(lambda t, z: t.replace(tzinfo=z), of_day, zones)] * 2)
)


@given(st.lists(constraints, min_size=1, max_size=4), st.data())
@settings(max_examples=300, deadline=None)
def test_rates_at_a_time_are_the_librarys_in_any_order_of_calls(
    found: list[StartDateConstraint | TimeOfDateConstraint | None], data: st.DataObject
) -> None:
    conditional = [ConditionalPrice(c, prices=ModelPrice(input_mtok=Decimal(i))) for i, c in enumerate(found)]
    info = ModelInfo("m", ClauseEquals("m"), prices=conditional)
    model = module._Model(info, {id(c.prices): rates_of(c.prices) for c in conditional})
    start = (datetime(2026, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    days = st.sampled_from([start + i * module._DAY for i in range(-1, 5)])
    near = st.builds(
        lambda d, c, by: d + c + by, days, st.sampled_from(module._cuts(info)), st.integers(-2, 2)
    )
    for at_us in data.draw(
        st.lists(near | st.builds(int.__add__, days, st.integers(0, module._DAY)), max_size=20)
    ):
        rates = model.at(at_us)
        assert rates is not None
        assert rates.price is info.get_prices(EPOCH + timedelta(microseconds=at_us))


def test_a_time_of_day_is_in_its_zone() -> None:
    zone = timezone(timedelta(hours=-10))
    constraint = TimeOfDateConstraint(time(20, tzinfo=zone), time(2, tzinfo=zone))
    first, second = (ModelPrice(input_mtok=Decimal(i)) for i in (1, 2))
    info = ModelInfo(
        "m",
        ClauseEquals("m"),
        prices=[ConditionalPrice(prices=first), ConditionalPrice(constraint, prices=second)],
    )
    assert module._cuts(info) == [0, module._DAY // 4, module._DAY // 2, module._DAY]
    model = module._Model(info, {})
    start = NOW - NOW % module._DAY
    found = [model.at(start + hour * module._DAY // 24) for hour in (5, 6, 11, 12)]
    assert [r.price if r else None for r in found] == [first, second, second, first]


def test_a_constraint_of_another_kind_is_evaluated_every_time() -> None:
    class Odd:
        def active(self, request_timestamp: datetime) -> bool:
            return request_timestamp.microsecond % 2 == 1

    first, second = (ModelPrice(input_mtok=Decimal(i)) for i in (1, 2))
    odd: Any = Odd()
    info = ModelInfo(
        "m", ClauseEquals("m"), prices=[ConditionalPrice(prices=first), ConditionalPrice(odd, prices=second)]
    )
    model = module._Model(info, {})
    found = [model.at(NOW + i) for i in range(4)]
    assert [r.price if r else None for r in found] == [first, second, first, second]


@pytest.mark.parametrize(
    ("provider", "model", "n", "m", "at_us"),
    [
        (b"openai", b"no-such-model", 1, 1, NOW),
        (b"openai", None, 1, 1, NOW),
        (b"openai", b"", 1, 1, NOW),
        (None, None, 1, 1, NOW),
        (None, b"no-such-model", 1, 1, NOW),
        (b"nobody", b"gpt-4o", 1, 1, NOW),
        (b"langgenius/openai_api_compatible/openai_api_compatible", b"gpt-4o", 1, 1, NOW),
        (b"ollama", b"gpt-4o", 1, 1, NOW),
        (b"watsonx", b"ibm/granite-13b", 1, 1, NOW),
        (b"openai", b"whisper-1", 1, 1, NOW),
        (b"openai", b"gpt-4o", None, None, NOW),
        (b"openai", b"gpt-4o", 0, 0, NOW),
        (b"openai", b"gpt-4o", 0, None, NOW),
        (b"openai", b"gpt-4o", -1, 5, NOW),
        (b"openai", b"gpt-4o", 5, -1, NOW),
        (b"openai", b"gpt-4o", TOKENS + 1, 0, NOW),
        (b"openai", b"gpt-4o", TOKENS, TOKENS, NOW),
        (b"openai", b"gpt-4o", 1, 1, 2**62),
        (b"openai", b"gpt-4o", 1, 1, -(2**62)),
        (b"openai", b"gpt-4o\xff", 1, 1, NOW),
        (b"\xff", b"gpt-4o", 1, 1, NOW),
        (b"openai", b"gpt-4o" * 1400, 1, 1, NOW),
        (b"openai" * 1400, b"gpt-4o", 1, 1, NOW),
    ],
)
def test_what_has_no_estimate(
    provider: bytes | None, model: bytes | None, n: int | None, m: int | None, at_us: int
) -> None:
    assert one.estimate(provider, model, n, m, at_us) is None


def test_one_kind_of_tokens_is_enough() -> None:
    assert one.estimate(b"openai", b"gpt-4o", 1000, None, NOW) == one.estimate(
        b"openai", b"gpt-4o", 1000, 0, NOW
    )
    assert one.estimate(b"openai", b"text-embedding-3-small", 1000, None, NOW) == 20_000_000
    assert one.estimate(b"openrouter", b"openai/gpt-oss-20b:free", 10, 10, NOW) == 0


names = (
    st.none() | st.binary(max_size=300) | st.sampled_from([m.encode() for _, m in MODELS] + list(module._IDS))
)
whole = st.none() | st.integers() | counts


@given(names, names, whole, whole, st.integers(-(2**63), 2**63 - 1) | times)
@settings(max_examples=300, deadline=None)
@example(b"openai", b"gpt-4o", 1, 1, module._FIRST)
@example(b"deepseek", b"deepseek-chat", 1, 1, module._FIRST)
@example(b"deepseek", b"deepseek-chat", 1, 1, module._LAST)
@example(b"anthropic", b"claude-sonnet-4-5", 1, 1, module._LAST)
def test_any_input_gives_an_estimate_or_none(
    provider: bytes | None, model: bytes | None, n: int | None, m: int | None, at_us: int
) -> None:
    found = one.estimate(provider, model, n, m, at_us)
    assert found is None or (type(found) is int and 0 <= found < LIMIT)
    assert found == Prices().estimate(provider, model, n, m, at_us)


def test_what_is_remembered_is_bounded() -> None:
    prices = Prices()
    for i in range(9000):
        assert prices.estimate(b"perplexity", b"no-such-model-%d" % i, 1, 1, NOW) is None
    assert len(prices._found) <= 4096
    assert len(prices._snapshot._provider_cache) <= 4096
    prices.estimate(b"perplexity", b"m" * 8192, 1, 1, NOW)
    assert all(len(model or b"") < 300 for _, model in prices._found)
    assert prices.estimate(b"openai", b"gpt-4o", 1, 1, NOW) == one.estimate(b"openai", b"gpt-4o", 1, 1, NOW)


def test_a_table_put_in_place_of_the_shipped_one_is_not_used() -> None:
    expected = one.estimate(b"openai", b"gpt-4o", 1, 1, NOW)
    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert Prices().estimate(b"openai", b"gpt-4o", 1, 1, NOW) == expected
    finally:
        set_custom_snapshot(None)


OFFLINE = """
import sys, threading
def hook(event, args):
    if event.startswith("socket."):
        print(event, args)
        sys.exit(3)
sys.addaudithook(hook)
from streams.processing.prices import Prices
prices = Prices()
assert prices.estimate(b"openai", b"gpt-4o", 1000, 1000, 1_790_000_000_000_000)
assert prices.estimate(None, b"unheard-of", 1000, 1000, 1_790_000_000_000_000) is None
assert threading.active_count() == 1
"""


def test_no_socket_and_no_thread_at_import_or_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_says_what_it_is() -> None:
    assert one.table == f"genai-prices {genai_prices.__version__}"


def test_conditional_prices_stay_the_same_objects() -> None:
    info = next(m for p in providers for m in p.models if isinstance(m.prices, list))
    assert isinstance(info.prices, list)
    assert all(isinstance(c, ConditionalPrice) for c in info.prices)
    assert any(info.get_prices(datetime(2026, 1, 1, tzinfo=UTC)) is c.prices for c in info.prices)
