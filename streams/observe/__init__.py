"""What a worker shows of itself, and the watchdog that ends it when it hangs: docs/telemetry.md."""
