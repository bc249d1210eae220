"""The processor: reads trace.events, correlates and enriches, writes trace.enriched, in one transaction a
unit of work."""
