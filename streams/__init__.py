"""The stream processor: reads trace.events, correlates and enriches, writes trace.enriched.

Each batch of work is one Kafka transaction.
"""
