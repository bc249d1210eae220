"""The interface for sink authors: contract, outcomes, HTTP, status policy, redaction."""
