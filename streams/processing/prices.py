"""Estimates the price of a model call: tokens times the list prices that genai-prices ships. Pure.

The table is that of the installed package, read once; nothing is fetched. `genai_prices.UpdatePrices`,
which would fetch a newer table, is never started, and a table that other code in the process sets is
not used either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Final

import genai_prices
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    PriceVariant,
    StartDateConstraint,
    TimeOfDateConstraint,
)

from streams.processing.money import LIMIT
from streams.processing.providers import LONGEST, normalised
from streams.processing.rates import Rates, rates_of
from tailrace.records import TokenClasses

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
_TIER_KEYS: Final = ("service_tier", "processing", "speed")
"""What the table calls a tier of service: `priority` is a service_tier, `batch` a processing."""
STANDARD: Final = frozenset({"", "auto", "default", "standard", "on_demand"})
"""Tiers that have the usual price if the table does not know them."""


class _Model:
    """A model of the table, and its rates by price.

    Args:
        own: whether the provider itself has the model. Another provider's models have no tiers.
    """

    __slots__ = ("_cuts", "_info", "_now", "_rates", "_since", "_tiers", "_until", "_variants", "always")

    def __init__(self, info: ModelInfo, rates: dict[int, Rates | None], own: bool = True) -> None:
        self._info = info
        self._rates = rates
        self._variants: list[PriceVariant] = (info.price_variants or []) if own else []
        self._tiers: dict[tuple[int, ...], Rates | None] = {}
        self._cuts = _cuts(info)
        self._since = self._until = 0
        self._now: Rates | None = None
        self.always = None if isinstance(info.prices, list) else self._at(0)

    def at(self, at_us: int) -> Rates | None:
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

    def in_tier(self, at_us: int, tier: str) -> Rates | None:
        """The rates in a tier of service at a time; None if the table does not have it then."""
        at = _EPOCH + timedelta(microseconds=at_us)
        applied = [i for i, v in enumerate(self._variants) if _applies(v, tier, at)]
        if not applied:
            return (self.always or self.at(at_us)) if tier in STANDARD else None
        key = (id(self._info.get_prices(at)), *applied)
        try:
            return self._tiers[key]
        except KeyError:
            price = self._info.get_prices(at, dict.fromkeys(_TIER_KEYS, tier))
            found = self._tiers[key] = rates_of(price)
            return found

    def _at(self, at_us: int) -> Rates | None:
        price = self._info.get_prices(_EPOCH + timedelta(microseconds=at_us))
        try:
            return self._rates[id(price)]
        except KeyError:
            return rates_of(price)


def _applies(variant: PriceVariant, tier: str, at: datetime) -> bool:
    return all(key in _TIER_KEYS and value == tier for key, value in variant.when.items()) and (
        variant.constraint is None or variant.constraint.active(at)
    )


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


class Prices:
    """The list prices of models. Equal arguments give equal estimates, whatever was estimated before."""

    def __init__(self) -> None:
        self._snapshot = DataSnapshot(providers=providers, from_auto_update=False)
        self._found: dict[tuple[bytes | None, bytes | None], _Model | None] = {}
        self._rates: dict[int, Rates | None] = {}
        self._models: dict[tuple[int, bool], _Model] = {}

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
        classes: TokenClasses | None = None,
        tier: bytes | None = None,
        answered: bytes | None = None,
    ) -> int | None:
        """The list price of a call in units of 1e-12 US dollars, rounded once, half to even.

        The result equals that of `genai_prices.calc_price` for the same arguments, except that
        providers whose names merely contain a known one are not guessed (a server that speaks OpenAI's
        protocol is not OpenAI). As there, a missing provider is derived from the model's name. It is an
        estimate: discounts are unknown, and tokens without a class count as uncached text. For units see
        `streams.processing.money`.

        Args:
            provider: as in the event, or as `normalised` returns it.
            model: as in the event, or as `normalised` returns it.
            at_us: when the call was made, microseconds UTC; prices change, and some depend on the time
                of day.
            classes: tokens by class, which are plausible (`tailrace.token_classes`).
            tier: tier of service. In one that the table does not have for the model at that time, there is
                no estimate; the standard ones (`STANDARD`) need not be in it.
            answered: the model that answered; if it is in the table, it counts instead of `model`.

        Returns:
            None if there are no tokens, a count is below 0 or above `TOKENS`, the provider or model is
            not in the table, the model is not charged by tokens, the time is outside the calendar, or
            the amount is not within `money.LIMIT`. A count that is None is 0.
        """
        n, m = input_tokens or 0, output_tokens or 0
        if not (0 <= n <= TOKENS and 0 <= m <= TOKENS and n + m and _FIRST <= at_us <= _LAST):
            return None
        known = None if answered is None else self._model(provider, answered)
        if known is None:
            try:
                known = self._found[provider, model]
            except KeyError:
                known = self._learn(provider, model)
            if known is None:
                return None
        rates = (known.always or known.at(at_us)) if tier is None else _in_tier(known, at_us, tier)
        if rates is None:
            return None
        if classes is None:
            units = rates.units(n, m)
        else:
            counts = rates.counts(n, m, classes)
            units = None if counts is None else rates.units(n, m, counts)
        return units if units is not None and 0 <= units < LIMIT else None

    def _model(self, provider: bytes | None, model: bytes | None) -> _Model | None:
        try:
            return self._found[provider, model]
        except KeyError:
            return self._learn(provider, model)

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
            owner, info = self._snapshot.find_provider_model(model.decode(), None, id_, None)
        except (LookupError, UnicodeDecodeError):
            return None
        key = id(info), any(info is m for m in owner.models)
        known = self._models.get(key)
        if known is None:
            for p in _prices(info):
                if id(p.prices) not in self._rates:
                    self._rates[id(p.prices)] = rates_of(p.prices)
            known = self._models[key] = _Model(info, self._rates, key[1])
        return known


def _in_tier(model: _Model, at_us: int, tier: bytes) -> Rates | None:
    if len(tier) > LONGEST:
        return None
    return model.in_tier(at_us, tier.decode("utf-8", "replace").strip().lower())
