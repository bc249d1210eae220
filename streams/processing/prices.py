"""Estimates the price of a model call: tokens times the list prices that genai-prices ships. Pure.

The table is that of the installed package, read once; nothing is fetched. `genai_prices.UpdatePrices`,
which would fetch a newer table, is never started, and a table that other code in the process sets is
not used either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import lcm
from typing import Final, NamedTuple

import genai_prices
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from streams.processing.money import DECIMALS, LIMIT, half_even
from streams.processing.providers import LONGEST, normalised

IDS: Final[Mapping[bytes, str]] = {
    b"aws.bedrock": "aws",
    b"azure.ai.inference": "azure",
    b"azure.ai.openai": "azure",
    b"fireworks_ai": "fireworks",
    b"gcp.gemini": "google",
    b"gcp.gen_ai": "google",
    b"gcp.vertex_ai": "google",
    b"mistral_ai": "mistral",
    b"moonshot_ai": "moonshotai",
    b"together_ai": "together",
    b"togetherai": "together",
    b"voyage": "voyageai",
    b"x_ai": "x-ai",
}
"""Names in `streams.processing.providers` of providers that have another id in the table.

Any other name is an id of the table, or unknown.
"""

TOKENS: Final = 2**40
"""Largest plausible token count, of either kind."""

_IDS: Final = {**{p.id.encode(): p.id for p in providers}, **IDS}
_MOST: Final = 4096
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400_000_000
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_CONTEXT: Final = Context(prec=60)
_PER: Final = (10**6, 10**6, 10**3)


class _Step(NamedTuple):
    """Prices for calls with more than `above` input tokens, as numerators."""

    above: int
    input: int
    output: int
    call: int


class _Rates:
    """One price of the table in integers.

    units = (input tokens * input + output tokens * output + call) / over.
    """

    __slots__ = ("over", "price", "steps")

    def __init__(self, price: ModelPrice) -> None:
        self.price = price
        """Kept alive, so that its `id()` stays unique."""
        self.steps, self.over = _steps(price)
        """The highest step first. Empty: only the library can compute this price."""
        if not self._agrees():
            self.steps = ()

    def units(self, input_tokens: int, output_tokens: int) -> int | None:
        for above, a, b, call in self.steps:
            if input_tokens > above:
                found = input_tokens * a + output_tokens * b + call
                return found if self.over == 1 else half_even(found, self.over)
        return _by_library(self.price, input_tokens, output_tokens)

    def _agrees(self) -> bool:
        """Whether the library gives the same result on both sides of every step.

        A later version of it may count something that these rates do not.
        """
        counts = {
            n for step in self.steps for n in (step.above, step.above + 1, step.above + 1_000_003) if n >= 0
        }
        return all(self.units(n, 999_983) == _by_library(self.price, n, 999_983) for n in counts)


def _steps(price: ModelPrice) -> tuple[tuple[_Step, ...], int]:
    values = (price.input_mtok, price.output_mtok, price.requests_kcount)
    starts = {t.start for v in values if isinstance(v, TieredPrices) for t in v.tiers}
    exact: dict[int, list[Fraction]] = {
        above: [_units(v, above + 1, per) for v, per in zip(values, _PER, strict=True)]
        for above in sorted({-1, *starts}, reverse=True)
    }
    over = lcm(*(f.denominator for row in exact.values() for f in row))
    return tuple(_Step(above, *(int(f * over) for f in row)) for above, row in exact.items()), over


def _units(value: Decimal | TieredPrices | None, input_tokens: int, per: int) -> Fraction:
    """The price of one token or call in units, for a call with that many input tokens."""
    if isinstance(value, TieredPrices):
        value = next((t.price for t in reversed(value.tiers) if input_tokens > t.start), value.base)
    return Fraction(value or 0) * 10**DECIMALS / per


def _by_library(price: ModelPrice, input_tokens: int, output_tokens: int) -> int | None:
    try:
        with localcontext(_CONTEXT):
            usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
            total = Fraction(price.calc_price(usage)["total_price"])
    except (ValueError, ArithmeticError):
        return None
    return half_even(total.numerator * 10**DECIMALS, total.denominator)


class _Model:
    """A model of the table, and its rates by price."""

    __slots__ = ("_cuts", "_info", "_now", "_rates", "_since", "_until", "always")

    def __init__(self, info: ModelInfo, rates: dict[int, _Rates | None]) -> None:
        self._info = info
        self._rates = rates
        self._cuts = _cuts(info)
        self._since = self._until = 0
        self._now: _Rates | None = None
        self.always = None if isinstance(info.prices, list) else self._at(0)

    def at(self, at_us: int) -> _Rates | None:
        """The rates at a time. The library is called once for each period in which they cannot change."""
        if self._since <= at_us < self._until:
            return self._now
        now = self._at(at_us)
        if self._cuts:
            since = at_us % _DAY
            i = bisect_right(self._cuts, since)
            midnight = at_us - since
            self._now, self._since, self._until = now, midnight + self._cuts[i - 1], midnight + self._cuts[i]
        return now

    def _at(self, at_us: int) -> _Rates | None:
        price = self._info.get_prices(_EPOCH + timedelta(microseconds=at_us))
        try:
            return self._rates[id(price)]
        except KeyError:
            return _rates(price)


def _cuts(info: ModelInfo) -> list[int]:
    """Times of day at which a price can begin, microseconds UTC: midnight, and those of its constraints.

    Empty if the constraints are of an unknown form.
    """
    times = {0, _DAY}
    for constraint in (p.constraint for p in _prices(info)):
        if isinstance(constraint, TimeOfDateConstraint):
            times.update(map(_of_day, (constraint.start_time, constraint.end_time)))
        elif not isinstance(constraint, StartDateConstraint | None):
            return []
    return sorted(times)


def _of_day(t: time) -> int:
    since = timedelta(hours=t.hour, minutes=t.minute, seconds=t.second, microseconds=t.microsecond)
    return (since - (t.utcoffset() or timedelta())) // timedelta(microseconds=1) % _DAY


def _prices(info: ModelInfo) -> list[ConditionalPrice]:
    return info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]


def _rates(price: ModelPrice) -> _Rates | None:
    """None if something other than tokens is charged (hours, characters, pages).

    A price without charges is free.
    """
    charged = {key for key, value in vars(price).items() if value is not None}
    return _Rates(price) if not charged or charged & {"input_mtok", "output_mtok"} else None


class Prices:
    """The list prices of models. Equal arguments give equal estimates, whatever was estimated before."""

    def __init__(self) -> None:
        self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        self._found: dict[tuple[bytes | None, bytes | None], _Model | None] = {}
        self._rates: dict[int, _Rates | None] = {}
        self._models: dict[int, _Model] = {}

    @property
    def table(self) -> str:
        """Where the estimates come from: package and version."""
        return f"genai-prices {genai_prices.__version__}"

    def estimate(
        self,
        provider: bytes | None,
        model: bytes | None,
        input_tokens: int | None,
        output_tokens: int | None,
        at_us: int,
    ) -> int | None:
        """The list price of a call in units of 1e-12 US dollars, rounded once, half to even.

        The result equals that of `genai_prices.calc_price` for the same arguments, except that
        providers whose names merely contain a known one are not guessed (a server that speaks OpenAI's
        protocol is not OpenAI). As there, a missing provider is derived from the model's name. It is an
        estimate: discounts, batches and service tiers are unknown, and all tokens count as uncached
        text. For units see `streams.processing.money`.

        Args:
            provider: as in the event, or as `normalised` returns it.
            model: as in the event, or as `normalised` returns it.
            at_us: when the call was made, microseconds UTC; prices change, and some depend on the time
                of day.

        Returns:
            None if there are no tokens, a count is below 0 or above `TOKENS`, the provider or model is
            not in the table, the model is not charged by tokens, the time is outside the calendar, or
            the amount is not within `money.LIMIT`. A count that is None is 0.
        """
        n, m = input_tokens or 0, output_tokens or 0
        if not (0 <= n <= TOKENS and 0 <= m <= TOKENS and n + m and _FIRST <= at_us <= _LAST):
            return None
        try:
            known = self._found[provider, model]
        except KeyError:
            known = self._learn(provider, model)
        if known is None:
            return None
        rates = known.always or known.at(at_us)
        if rates is None:
            return None
        units = rates.units(n, m)
        return units if units is not None and units < LIMIT else None

    def _learn(self, provider: bytes | None, model: bytes | None) -> _Model | None:
        if len(provider or b"") > LONGEST or len(model or b"") > LONGEST:
            return None
        if len(self._found) >= _MOST:
            self._found.clear()
            self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        self._found[provider, model] = found = self._find(*normalised(provider, model))
        return found

    def _find(self, provider: bytes | None, model: bytes | None) -> _Model | None:
        id_ = None if provider is None else _IDS.get(provider)
        if model is None or (provider is not None and id_ is None):
            return None
        try:
            _, info = self._snapshot.find_provider_model(model.decode(), None, id_, None)
        except (LookupError, UnicodeDecodeError):
            return None
        known = self._models.get(id(info))
        if known is None:
            for p in _prices(info):
                if id(p.prices) not in self._rates:
                    self._rates[id(p.prices)] = _rates(p.prices)
            known = self._models[id(info)] = _Model(info, self._rates)
        return known
