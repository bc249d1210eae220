"""A worker's telemetry and probes, and the watchdog that ends a hung worker: docs/telemetry.md."""
