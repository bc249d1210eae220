"""Sending: batches, retries, rate limits, dead-letter limits, the HTTP transport."""
