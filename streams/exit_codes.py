"""Exit codes of a worker, and what the supervisor makes of them. 0: it was asked to stop, and did."""

from __future__ import annotations

from typing import Final

FAILED: Final = 3
"""A unit could not be committed, the worker was fenced, ...: started again, it resumes where it was."""
CONFIG: Final = 2
"""A setting is wrong: starting again would not help."""
LOST_DATA: Final = 6
"""The stored position is not in the log: a person decides (--accept-loss)."""
BAD_STATE: Final = 7
"""A record of trace.state cannot be read: of a newer tailrace, or not written by one."""

FINAL: Final = frozenset({BAD_STATE, CONFIG, LOST_DATA})
"""Codes after which a worker is not started again."""
