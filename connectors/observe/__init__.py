"""What `tailrace connect` shows of itself: docs/telemetry.md."""
