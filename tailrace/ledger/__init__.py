"""Counts that must balance: what sinks commit with their offsets, and the report over a whole pipeline."""
