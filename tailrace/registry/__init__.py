"""Schemas of others, from files and from a schema registry with Confluent's REST interface: reading what they wrote, and writing
with the registry's ids. docs/registry.md says how to use it."""

from tailrace.registry.attached import attach
from tailrace.registry.client import Client
from tailrace.registry.source import Source
from tailrace.registry.subjects import subject_of

__all__ = ["Client", "Source", "attach", "subject_of"]
