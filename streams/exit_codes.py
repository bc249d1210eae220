"""Exit codes of a worker; the supervisor decides by them whether to restart it. 0: stopped on request."""

from __future__ import annotations

from typing import Final

FAILED: Final = 3
"""A failure (a commit failed, the worker was fenced, …). A restarted worker resumes at the last commit."""
CONFIG: Final = 2
"""A setting is wrong. A restart would not help."""
LOST_DATA: Final = 6
"""The stored position is not in the log. An operator must decide (--accept-loss)."""
BAD_STATE: Final = 7
"""A record of trace.state cannot be read: a newer tailrace or another program wrote it."""
REPARTITIONED: Final = 8
"""The partition count of trace.events has changed. An operator must act (--new-generation)."""

FINAL: Final = frozenset({BAD_STATE, CONFIG, LOST_DATA, REPARTITIONED})
"""Codes after which a worker is not restarted."""
