"""Telemetry and probes of `tailrace connect`: docs/telemetry.md."""
