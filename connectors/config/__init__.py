"""Instances of sinks, made from the settings; secrets."""
