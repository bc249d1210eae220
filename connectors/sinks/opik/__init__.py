"""The Opik sink."""

from connectors.sinks.opik.sink import Opik

__all__ = ["Opik"]
