"""Limits of Langfuse's store, and values in the form that it takes. Pure."""

from __future__ import annotations

import datetime
import re
from typing import Final

from tailrace.memo import Memo

MAX_TIME: Final = 10_413_791_999_999_000
"""End of 2299 in microseconds, the latest time that Langfuse's database can store."""
MAX_ID: Final = 200
"""Most characters of a session or user."""

_NOT_ENVIRONMENT: Final = re.compile(r"[^a-z0-9_-]")
_EPOCH: Final = datetime.datetime(1970, 1, 1)


def environment(text: str) -> str:
    """Converts a text to an environment that Langfuse accepts; may be empty.

    Langfuse accepts `[a-z0-9-_]`, at most 40 characters, not beginning with langfuse.
    """
    return _ENVIRONMENTS[text]


def _environment(text: str) -> str:
    name = _NOT_ENVIRONMENT.sub("-", text.strip().lower())
    while name.startswith("langfuse"):
        name = name.removeprefix("langfuse").lstrip("-_")
    return name[:40]


_ENVIRONMENTS: Final[Memo[str, str]] = Memo(_environment, 1024)


def iso(us: int) -> str:
    """Microseconds since 1970, up to the year 9999, as ISO 8601 in UTC, cut to milliseconds."""
    return (_EPOCH + datetime.timedelta(microseconds=us)).isoformat(timespec="milliseconds") + "Z"
