"""Sums of a trace's operations above the number that is kept individually."""

from __future__ import annotations

from typing import Final

import msgspec

_MAX: Final = (1 << 63) - 1


class OverflowTotals(msgspec.Struct):
    """Sums of the operations that are not kept individually."""

    counts: dict[str, int] = {}
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    classes: list[int] = []
    """Tokens by class, in the order of `operations.CLASSES`; empty: none."""
    cost: dict[str, int] = {}
    estimated: bool = False
    started_at: int = _MAX
    ended_at: int = 0
