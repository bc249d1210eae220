"""How much a partition remembers."""

from __future__ import annotations

import msgspec


class MetricLimits(msgspec.Struct, frozen=True):
    """How much a partition counts apart."""

    horizon_ms: int
    """How far back, by the partition's clock, a minute's row is open."""
    max_groups: int
    """Groups a kind."""
    max_rows: int
    """Minutes of groups; beyond it the oldest close."""


class StateLimits(msgspec.Struct, frozen=True):
    """How much a partition remembers."""

    idle_ms: int
    """A trace without events for this long, by the partition's clock, is evicted."""
    max_traces: int
    """Beyond this many open traces the oldest are evicted."""
    dedupe_ms: int
    link_ms: int
    """How long a link is remembered."""
    metrics: MetricLimits = MetricLimits(horizon_ms=192 * 3_600_000, max_groups=10_000, max_rows=500_000)
