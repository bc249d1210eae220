"""Parsing and formatting for `tailrace metrics`: durations, times, values per unit, tables. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Final

MINUTES: Final = {"m": 1, "h": 60, "d": 1440}
_DURATION: Final = re.compile(r"(\d{1,6})([mhd])")
_SECONDS: Final = (
    (100_000_000, 1_000_000, "s"),
    (7_200_000_000, 60_000_000, "min"),
    (math.inf, 3_600_000_000, "h"),
)
_LONG: Final = 48
_WIDE: Final = Context(prec=60)
MONEY: Final = "{currency}"
SECONDS: Final = "s"


def minutes(text: str) -> int:
    """A duration such as 5m, 1h or 1d, in minutes. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is not a valid duration; for example 1m, 15m, 1h or 1d")
    return int(found[1]) * MINUTES[found[2]]


def moment(text: str, now: float) -> float:
    """A point in time, in minutes since 1970.

    Args:
        text: ISO 8601 (UTC if it has no time zone), `now`, or a time before now such as -30m, -1h or
            -2d.
        now: seconds since 1970.

    Raises:
        ValueError: `text` is none of these.
    """
    text = text.strip()
    if text == "now":
        return now / 60
    if text.startswith("-"):
        return now / 60 - minutes(text[1:])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a valid time; for example 2026-11-01T12:00, 2026-11-01, now or -1h"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() / 60


def at(minute: int, form: str = "%Y-%m-%d %H:%M") -> str:
    """A minute since 1970 as UTC text; outside the calendar, its number."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).strftime(form)
    except OverflowError:
        return f"minute {minute}"


def span(size: int) -> str:
    """Minutes as a duration: 5m, 1h, 1d."""
    unit = next(u for u in ("d", "h", "m") if size % MINUTES[u] == 0)
    return f"{size // MINUTES[unit]}{unit}"


def duration(microseconds: float) -> str:
    """For people: 850 µs, 12.3 ms, 1.23 s, 3.5 min, 2.1 h."""
    size = abs(microseconds)
    if size < 999.5:
        return f"{microseconds:.0f} µs"
    if size < 999_500:
        return f"{microseconds / 1000:.3g} ms"
    _, divisor, unit = next(s for s in _SECONDS if size < s[0])
    digits = f"{microseconds / divisor:.3g}" if size < 999.5 * divisor else f"{microseconds / divisor:,.0f}"
    return f"{digits} {unit}"


def money(value: int) -> str:
    """1e-12 of a currency as decimal text, exact."""
    text = format(Decimal(value).scaleb(-12, _WIDE), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def human(value: float | None, unit: str, aligned: bool = False) -> str:
    """A value for people, in its unit; "-" for None.

    Money has two to six decimal places; with `aligned` always six, for columns.
    """
    if value is None:
        return "-"
    if unit == SECONDS:
        return duration(value)
    if unit == MONEY:
        whole, _, digits = f"{Decimal(round(value)).scaleb(-12, _WIDE):,.6f}".partition(".")
        return f"{whole}.{digits if aligned else digits.rstrip('0').ljust(2, '0')}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def plain(value: float | None, unit: str) -> int | str | None:
    """A value for machines: money as decimal text, everything else as an integer in the row's unit."""
    if value is None:
        return None
    return money(round(value)) if unit == MONEY else round(value)


def label(value: str) -> str:
    """A label's value for one line of a terminal: printable, at most 48 characters, "-" if empty."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
    return (shown if len(shown) <= _LONG else shown[: _LONG - 1] + "…") or "-"


def percentile(q: float) -> str:
    """p50, p99, p99.9"""
    return f"p{q * 100:.6g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = ()) -> list[str]:
    """Lines of aligned columns. Columns in `left` are text; the others are numbers, aligned to the right."""
    cells = [[str(c) for c in row] for row in (heads, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    return [
        "  ".join(
            c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def near(text: str, names: Collection[str]) -> str:
    """The end of an error message: the names similar to `text`, or else the known names."""
    if not names:
        return "there are none"
    inside = sorted(n for n in names if text.lower() in n.lower())
    like = list(dict.fromkeys([*inside, *difflib.get_close_matches(text, sorted(names), n=5, cutoff=0.7)]))[
        :5
    ]
    if like:
        return f"did you mean {' or '.join(like)}?"
    shown = sorted(names)[:20]
    return f"there are {', '.join(shown)}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
