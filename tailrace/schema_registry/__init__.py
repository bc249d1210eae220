"""Schemas from files and from a schema registry with Confluent's REST interface.

With them, records that others wrote can be read, and our own are written with the registry's ids. See
docs/registry.md.
"""

from tailrace.schema_registry.client import Client
from tailrace.schema_registry.fetcher import SchemaFetcher
from tailrace.schema_registry.setup import attach
from tailrace.schema_registry.subjects import subject_of

__all__ = ["Client", "SchemaFetcher", "attach", "subject_of"]
