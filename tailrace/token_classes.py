"""Whether the token counts of an event by class fit its totals. Pure.

A class is part of `input_tokens` or `output_tokens`, never beside it.
"""

from __future__ import annotations

from typing import Final

from tailrace.codec.encoder import whole, wrong
from tailrace.errors import InvalidEvent
from tailrace.records import TokenClasses, TraceEvent

OF_INPUT: Final = ("cache_read", "cache_write", "input_audio", "input_image")
OF_OUTPUT: Final = ("reasoning", "output_audio", "output_image")
WITHIN: Final = (
    ("cache_write_1h", "cache_write"),
    ("cache_read_audio", "cache_read"),
    ("cache_read_audio", "input_audio"),
)
"""A class, and the class that it is part of."""
APART: Final = (
    ("cache_read", "cache_write"),
    ("input_audio", "input_image"),
    ("output_audio", "output_image"),
)
"""Classes that have no tokens in common."""
_LONG: Final = 1 << 63


def plausible(given: int | None, received: int | None, c: TokenClasses) -> bool:
    """Whether the classes fit the totals.

    Args:
        given: Input tokens.
        received: Output tokens.
        c: The classes.
    """
    most_in, most_out = max(given or 0, 0), max(received or 0, 0)
    read, write, hour = c.cache_read or 0, c.cache_write or 0, c.cache_write_1h or 0
    audio, image, cached = c.input_audio or 0, c.input_image or 0, c.cache_read_audio or 0
    thought, spoken, drawn = c.reasoning or 0, c.output_audio or 0, c.output_image or 0
    return (
        read >= 0
        and 0 <= hour <= write
        and read + write <= most_in
        and audio >= 0
        and image >= 0
        and audio + image <= most_in
        and 0 <= cached <= read
        and cached <= audio
        and 0 <= thought <= most_out
        and spoken >= 0
        and drawn >= 0
        and spoken + drawn <= most_out
    )


def check(event: TraceEvent) -> None:
    """Checks the classes of an event that is published.

    Raises:
        InvalidEvent: Names the first class that does not fit, and what to do.
    """
    c = event.token_classes
    if c is None:
        return
    if not isinstance(c, TokenClasses):
        raise wrong("token_classes", c, "a tailrace.TokenClasses or None")
    counts: dict[str, int] = {}
    for name in TokenClasses.__struct_fields__:
        value = getattr(c, name)
        if value is None:
            continue
        n = _long(value)
        if n is None:
            raise wrong(f"token_classes.{name}", value, "an integer of 64 bits or None")
        if n < 0:
            raise InvalidEvent(f"token_classes.{name}", f"is {n}; a count is 0 or more")
        counts[name] = n
    c = TokenClasses(**counts)
    for names, total in ((OF_INPUT, "input_tokens"), (OF_OUTPUT, "output_tokens")):
        given = getattr(event, total)
        most = None if given is None else _long(given)
        if given is None or most is not None:  # else the encoder refuses it
            _check_parts(c, names, total, most)
    for name, larger in WITHIN:
        n, limit = getattr(c, name) or 0, getattr(c, larger) or 0
        if n > limit:
            raise InvalidEvent(
                f"token_classes.{name}", f"is {n}, more than {larger} {limit}: {larger} must include it"
            )


def _long(value: object) -> int | None:
    """A whole number of any type that the encoder takes for a long."""
    n = value if type(value) is int else whole(value)
    return n if n is not None and -_LONG <= n < _LONG else None


def _check_parts(c: TokenClasses, names: tuple[str, ...], total: str, most: int | None) -> None:
    for name in names:
        n = getattr(c, name) or 0
        if n and most is None:
            raise InvalidEvent(
                f"token_classes.{name}", f"is {n}, but {total} is missing: set {total}, which must include it"
            )
        if n > max(most or 0, 0):
            raise InvalidEvent(
                f"token_classes.{name}", f"is {n}, more than {total} {most}: {total} must include it"
            )
    for one, other in APART:
        if one in names and (both := (getattr(c, one) or 0) + (getattr(c, other) or 0)) > max(most or 0, 0):
            raise InvalidEvent(
                f"token_classes.{one}",
                f"and {other} are {both} together, more than {total} {most}: {total} must include both",
            )
