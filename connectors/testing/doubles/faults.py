"""Fault plans: which fault happens to which request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults, by number of the request since the plan was set.

    The first requests are answered with `status`, the next ones are reset, the next ones hang, and all
    others succeed. A count of 0 means all requests from there on. Only accepted requests hang or lose their
    response; refused ones are answered.
    """

    only: str = ""
    """The group of requests that is counted and fails, one of the double's `groups`; empty: all groups."""
    status: int = 0
    """HTTP status of the first `status_first` requests, of which nothing is stored; 0: no such fault."""
    status_first: int = 1
    headers: Mapping[str, str] = {}
    """Sent with `status`, for example Retry-After."""
    reset: Literal["request", "response"] | None = None
    """request: reset while the body is sent, nothing stored. response: stored, without a complete answer."""
    reset_first: int = 1
    hang: bool = False
    """The request is stored and not answered before the double stops."""
    hang_first: int = 1
    delay: float = 0.0
    """Seconds before each answer."""

    def steps(self) -> Iterator[tuple[str, bool, int]]:
        """The faults in order: name, whether it is planned, to how many requests it happens."""
        yield "status", self.status > 0, self.status_first
        yield "reset", self.reset is not None, self.reset_first
        yield "hang", self.hang, self.hang_first

    def at(self, n: int) -> str | None:
        """The name of the fault of request `n`, counted from 1; None if it has none."""
        for name, planned, first in self.steps():
            if planned:
                if first == 0 or n <= first:
                    return name
                n -= first
        return None
