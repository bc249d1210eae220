"""Consumes `trace.enriched` for a sink: consumer group, partitions, dead letters and commits."""
