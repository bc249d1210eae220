"""Sub-commands that need only the base package. Those of `streams` and `connectors` live there."""
