"""Sinks: from trace.enriched to the observability backends. What a sink's author needs is here; the rest is the runner's.

Names are imported when they are first used: the pytest plugin lives below this package and must cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from connectors.contract import (
        Batch,
        Enriched,
        Health,
        Payload,
        Rates,
        Secret,
        SinkStopped,
        Skip,
        sink,
    )
    from connectors.http import Http, NoAnswer, Response
    from connectors.outcomes import Delivered, Filtered, Outcome, Outcomes, Paused, Rejected, Retry, Split
    from connectors.simple import HttpSettings, http_sink

__all__ = [
    "Batch", "Delivered", "Enriched", "Filtered", "Health", "Http", "HttpSettings", "NoAnswer", "Outcome", "Outcomes",
    "Paused", "Payload", "Rates", "Rejected", "Response", "Retry", "Secret", "SinkStopped", "Skip", "Split", "http_sink",
    "sink",
]  # fmt: skip

_HOMES: Final = {
    "connectors.contract": (
        "Batch", "Enriched", "Health", "Payload", "Rates", "Secret", "SinkStopped", "Skip", "sink",
    ),
    "connectors.http": ("Http", "NoAnswer", "Response"),
    "connectors.outcomes": (
        "Delivered", "Filtered", "Outcome", "Outcomes", "Paused", "Rejected", "Retry", "Split",
    ),
    "connectors.simple": ("HttpSettings", "http_sink"),
}  # fmt: skip
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
