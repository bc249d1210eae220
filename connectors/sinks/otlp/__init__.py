"""The OTLP sink."""

from connectors.sinks.otlp.sink import Otlp

__all__ = ["Otlp"]
