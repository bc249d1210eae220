"""Sends batches: batching, retries, rate limits, dead-letter limits and the HTTP transport."""
