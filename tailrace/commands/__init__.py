"""Sub-commands that need nothing but the base. Those of `streams` and `connectors` live there."""
