"""Health pages and telemetry of a tailrace process: docs/telemetry.md. Applications do not import this."""
