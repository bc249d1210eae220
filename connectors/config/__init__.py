"""Sink instances from the settings, and their secrets."""
