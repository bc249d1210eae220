"""Reads metric rows and merges them into windows."""
