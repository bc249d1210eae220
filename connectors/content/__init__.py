"""Brings large content back into a record before a sink sees it: references, fetching, failures."""
