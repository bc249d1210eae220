"""Examples that run: `python -m examples.<name>` from the repository's root."""
