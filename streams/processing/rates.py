"""One price of the price table in integers, checked against the library that the table comes from. Pure."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import lcm
from typing import Final, NamedTuple

import genai_prices
from genai_prices.types import ModelPrice, TieredPrices

from streams.processing.money import DECIMALS, half_even
from tailrace.records import TokenClasses

_CONTEXT: Final = Context(prec=60)
_PROBE: Final = 1_000_003
"""Input tokens above a step's begin for which its rates are compared with the library."""


class Counts(NamedTuple):
    """Tokens by class, as the library wants them: also what two classes have in common."""

    read: int = 0
    write: int = 0
    hour: int = 0
    """Of `write`, for an hour."""
    audio: int = 0
    image: int = 0
    read_audio: int = 0
    read_image: int = 0
    thought: int = 0
    spoken: int = 0
    drawn: int = 0


class _Class(NamedTuple):
    usage: str
    """The library's name of the count."""
    price: str
    """The library's name of the price."""
    within: tuple[str, ...]
    """Prices of what the class is part of."""
    common: str = ""
    """Price of what those are part of, if there are two."""


CLASSES: Final = (
    _Class("cache_read_tokens", "cache_read_mtok", ("input_mtok",)),
    _Class("cache_write_tokens", "cache_write_mtok", ("input_mtok",)),
    _Class("cache_write_1h_tokens", "cache_write_1h_mtok", ("cache_write_mtok",)),
    _Class("input_audio_tokens", "input_audio_mtok", ("input_mtok",)),
    _Class("input_image_tokens", "input_image_mtok", ("input_mtok",)),
    _Class(
        "cache_audio_read_tokens",
        "cache_audio_read_mtok",
        ("cache_read_mtok", "input_audio_mtok"),
        "input_mtok",
    ),
    _Class(
        "cache_image_read_tokens",
        "cache_image_read_mtok",
        ("cache_read_mtok", "input_image_mtok"),
        "input_mtok",
    ),
    _Class("output_reasoning_tokens", "output_reasoning_mtok", ("output_mtok",)),
    _Class("output_audio_tokens", "output_audio_mtok", ("output_mtok",)),
    _Class("output_image_tokens", "output_image_mtok", ("output_mtok",)),
)
"""In the order of `Counts`."""
_PER: Final = {
    "input_mtok": 10**6,
    "output_mtok": 10**6,
    "requests_kcount": 10**3,
    **{c.price: 10**6 for c in CLASSES},
}
"""Price -> tokens or calls that it is for."""


class _Step(NamedTuple):
    """Prices for calls with more than `above` input tokens, as numerators."""

    above: int
    input: int
    output: int
    call: int
    classes: tuple[int, ...]
    """What a token of a class costs more than one of what the class is part of, in the order of `Counts`."""


class Rates:
    """One price of the table in integers.

    units = (input tokens * input + output tokens * output + call + the classes' tokens * classes) / over.
    """

    __slots__ = ("_classed", "over", "price", "priced", "steps")

    def __init__(self, price: ModelPrice) -> None:
        self.price = price
        """Kept alive, so that its `id()` stays unique."""
        self.priced: Final = Counts(*(int(getattr(price, c.price) is not None) for c in CLASSES))
        """1 for the classes that have a price of their own."""
        self.steps, self.over = _steps(price)
        """The highest step first. Empty: only the library can compute this price."""
        if not self._agrees():
            self.steps = ()
        self._classed: bool | None = None

    @property
    def classed(self) -> bool:
        """Whether the steps are right for calls with classes, too. If not, the library computes those."""
        if self._classed is None:
            self._classed = self._agrees_on_classes()
        return self._classed

    def units(self, input_tokens: int, output_tokens: int, counts: Counts | None = None) -> int | None:
        """The price of a call in units of 1e-12 US dollars, rounded once; None if there is none."""
        if counts is not None:
            found = self._with_classes(input_tokens, output_tokens, counts) if self.classed else None
            if found is not None:
                return found
            return by_library(self.price, input_tokens, output_tokens, counts)
        for above, a, b, call, _ in self.steps:
            if input_tokens > above:
                found = input_tokens * a + output_tokens * b + call
                return found if self.over == 1 else half_even(found, self.over)
        return by_library(self.price, input_tokens, output_tokens)

    def _with_classes(self, input_tokens: int, output_tokens: int, counts: Counts) -> int | None:
        for above, a, b, call, classes in self.steps:
            if input_tokens > above:
                found = input_tokens * a + output_tokens * b + call
                found += sum([n * rate for n, rate in zip(counts, classes, strict=True)])
                return half_even(found, self.over)
        return None

    def counts(self, given: int, received: int, c: TokenClasses) -> Counts | None:
        """The counts of classes that have a price of their own, for plausible classes.

        What an event does not say of two overlapping classes is the least that its totals allow.

        Returns:
            None if the classes are more than the totals.
        """
        p = self.priced
        read, write, audio, image = (
            (c.cache_read or 0) * p.read,
            (c.cache_write or 0) * p.write,
            (c.input_audio or 0) * p.audio,
            (c.input_image or 0) * p.image,
        )
        read_audio, read_image = (c.cache_read_audio or 0) * p.read_audio, 0
        left = given - read - write - audio - image + read_audio
        if left < 0 and c.cache_read_audio is None and p.read_audio:
            read_audio = min(-left, read, audio)
            left += read_audio
        if left < 0 and p.read_image:
            read_image = min(-left, read - read_audio, image)
            left += read_image
        thought, spoken, drawn = (
            (c.reasoning or 0) * p.thought,
            (c.output_audio or 0) * p.spoken,
            (c.output_image or 0) * p.drawn,
        )
        if left < 0 or received < thought + spoken + drawn:
            return None
        hour = (c.cache_write_1h or 0) * p.hour
        return Counts(read, write, hour, audio, image, read_audio, read_image, thought, spoken, drawn)

    def _agrees(self) -> bool:
        """Whether the library gives the same result on both sides of every step.

        A later version of it may count something that these rates do not.
        """
        counts = {
            n for step in self.steps for n in (step.above, step.above + 1, step.above + _PROBE) if n >= 0
        }
        return all(self.units(n, 999_983) == by_library(self.price, n, 999_983) for n in counts)

    def _agrees_on_classes(self) -> bool:
        for step in self.steps:
            n, m = step.above + _PROBE, 999_983
            parts = (n // 5, n // 7, n // 11, n // 13, n // 17, n // 29, n // 31, m // 3, m // 5, m // 7)
            counts = Counts(*(part * priced for part, priced in zip(parts, self.priced, strict=True)))
            if self._with_classes(n, m, counts) != by_library(self.price, n, m, counts):
                return False
        return True


def rates_of(price: ModelPrice) -> Rates | None:
    """None if something other than tokens is charged (hours, characters, pages).

    A price without charges is free.
    """
    charged = {key for key, value in vars(price).items() if value is not None}
    return Rates(price) if not charged or charged & {"input_mtok", "output_mtok"} else None


def _steps(price: ModelPrice) -> tuple[tuple[_Step, ...], int]:
    values = {key: getattr(price, key) for key in _PER}
    starts = {t.start for v in values.values() if isinstance(v, TieredPrices) for t in v.tiers}
    exact: dict[int, list[Fraction]] = {}
    for above in sorted({-1, *starts}, reverse=True):
        of = {key: _units(value, above + 1, _PER[key]) for key, value in values.items()}
        exact[above] = [of["input_mtok"], of["output_mtok"], of["requests_kcount"]]
        for c in CLASSES:
            more = of[c.price] - sum(of[key] for key in c.within) + (of[c.common] if c.common else 0)
            exact[above].append(more if values[c.price] is not None else Fraction(0))
    over = lcm(*(f.denominator for row in exact.values() for f in row))
    steps = []
    for above, row in exact.items():
        a, b, call, *classes = (int(f * over) for f in row)
        steps.append(_Step(above, a, b, call, tuple(classes)))
    return tuple(steps), over


def _units(value: Decimal | TieredPrices | None, input_tokens: int, per: int) -> Fraction:
    """The price of one token or call in units, for a call with that many input tokens."""
    if isinstance(value, TieredPrices):
        value = next((t.price for t in reversed(value.tiers) if input_tokens > t.start), value.base)
    return Fraction(value or 0) * 10**DECIMALS / per


def by_library(
    price: ModelPrice, input_tokens: int, output_tokens: int, counts: Counts | None = None
) -> int | None:
    """The price of a call as the library computes it, in units, rounded once; None if it refuses."""
    classes = {} if counts is None else {c.usage: n for c, n in zip(CLASSES, counts, strict=True)}
    try:
        with localcontext(_CONTEXT):
            usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens, **classes)
            total = Fraction(price.calc_price(usage)["total_price"])
    except (ValueError, ArithmeticError):
        return None
    return half_even(total.numerator * 10**DECIMALS, total.denominator)
