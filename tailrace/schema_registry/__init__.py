"""Schemas of others, from files and from a schema registry with Confluent's REST interface: reading what they
wrote, and writing with the registry's ids. docs/registry.md says how to use it."""

from tailrace.schema_registry.client import Client
from tailrace.schema_registry.fetcher import SchemaFetcher
from tailrace.schema_registry.setup import attach
from tailrace.schema_registry.subjects import subject_of

__all__ = ["Client", "SchemaFetcher", "attach", "subject_of"]
