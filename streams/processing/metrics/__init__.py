"""What is counted of events, and the metric records made from it. The rules: docs/metrics.md."""
