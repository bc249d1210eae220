"""The Weave sink."""

from connectors.sinks.weave.sink import Weave

__all__ = ["Weave"]
