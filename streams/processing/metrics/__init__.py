"""What is counted of events, and the records that come of it. The rules: docs/metrics.md."""
