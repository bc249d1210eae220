"""Sinks: from trace.enriched to the observability backends. What a sink's author needs is here; the rest is
the runner's.

Names are imported when they are first used: the pytest plugin lives below this package and must cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from connectors.sdk import endpoint, policy, redact
    from connectors.sdk.contract import (
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
    from connectors.sdk.http import Http, NoAnswer, Response
    from connectors.sdk.http_sink import HttpSettings, http_sink
    from connectors.sdk.outcomes import Delivered, Filtered, Outcome, Outcomes, Paused, Rejected, Retry, Split

__all__ = [
    "Batch",
    "Delivered",
    "Enriched",
    "Filtered",
    "Health",
    "Http",
    "HttpSettings",
    "NoAnswer",
    "Outcome",
    "Outcomes",
    "Paused",
    "Payload",
    "Rates",
    "Rejected",
    "Response",
    "Retry",
    "Secret",
    "SinkStopped",
    "Skip",
    "Split",
    "endpoint",
    "http_sink",
    "policy",
    "redact",
    "sink",
]

_HOMES: Final = {
    "connectors.sdk.contract": (
        "Batch",
        "Enriched",
        "Health",
        "Payload",
        "Rates",
        "Secret",
        "SinkStopped",
        "Skip",
        "sink",
    ),
    "connectors.sdk.http": ("Http", "NoAnswer", "Response"),
    "connectors.sdk.outcomes": (
        "Delivered",
        "Filtered",
        "Outcome",
        "Outcomes",
        "Paused",
        "Rejected",
        "Retry",
        "Split",
    ),
    "connectors.sdk.http_sink": ("HttpSettings", "http_sink"),
}
_MODULES: Final = ("endpoint", "policy", "redact")
_HOME: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"connectors.sdk.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
