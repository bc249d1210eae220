"""The Langfuse sink."""

from connectors.sinks.langfuse.sink import Langfuse

__all__ = ["Langfuse"]
