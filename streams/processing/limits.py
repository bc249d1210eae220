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
    link_ms: int
    """How long a link is remembered."""
    metrics: MetricLimits = MetricLimits(horizon_ms=192 * 3_600_000, max_groups=10_000, max_rows=500_000)
