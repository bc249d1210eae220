"""`tailrace metrics`."""

from tailrace.commands.metrics.command import metrics

__all__ = ["metrics"]
