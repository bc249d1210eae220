"""Limits on what a partition remembers."""

from __future__ import annotations

import msgspec


class MetricLimits(msgspec.Struct, frozen=True):
    """Limits on what a partition counts separately."""

    horizon_ms: int
    """How long a minute's row stays open, by the partition's clock."""
    max_groups: int
    """Groups per kind."""
    max_rows: int
    """Open minutes of all groups; above it the oldest are closed."""


class StateLimits(msgspec.Struct, frozen=True):
    """Limits on what a partition remembers."""

    idle_ms: int
    """A trace without events for this long, by the partition's clock, is evicted."""
    max_traces: int
    """Open traces; above it the oldest are evicted."""
    dedupe_ms: int
    start_bytes: int = 4 << 20
    """Memory for the starts of traces that have left the state; above it the oldest are forgotten."""
    link_bytes: int = 32 << 20
    """Memory for links; above it the oldest are forgotten."""
    metrics: MetricLimits = MetricLimits(horizon_ms=192 * 3_600_000, max_groups=10_000, max_rows=500_000)
