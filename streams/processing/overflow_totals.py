"""What is kept of a trace's operations beyond the most that are kept one by one."""

from __future__ import annotations

from typing import Final

import msgspec

_MAX: Final = (1 << 63) - 1


class OverflowTotals(msgspec.Struct):
    """Sums of the operations that are not kept one by one."""

    counts: dict[str, int] = {}
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost: dict[str, int] = {}
    estimated: bool = False
    started_at: int = _MAX
    ended_at: int = 0
