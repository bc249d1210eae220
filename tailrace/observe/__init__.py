"""How a process of tailrace shows itself: docs/telemetry.md. No application imports this."""
