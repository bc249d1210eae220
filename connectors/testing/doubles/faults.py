"""Fault plans: what goes wrong with which request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong, by number of the request among those that `only` names, since the plan was set: first
    those answered with `status`, then those reset, then those that hang, then all is well. A count of 0 has
    no end. Only requests that were accepted hang or lose their response; others get their answer."""

    only: str = ""
    """The group of requests that is counted and fails, one of the double's `groups`; empty: all groups."""
    status: int = 0
    """HTTP status of the first `status_first` requests, of which nothing is kept; 0: none."""
    status_first: int = 1
    headers: Mapping[str, str] = {}
    """Sent with `status`, for example Retry-After."""
    reset: Literal["request", "response"] | None = None
    """request: connection reset while the body is sent, nothing kept. response: all kept, no whole answer."""
    reset_first: int = 1
    hang: bool = False
    """All kept, not answered before the double stops."""
    hang_first: int = 1
    delay: float = 0.0
    """Seconds before each answer."""

    def steps(self) -> Iterator[tuple[str, bool, int]]:
        """The name of each fault, whether it is planned, and to how many requests it happens, in order."""
        yield "status", self.status > 0, self.status_first
        yield "reset", self.reset is not None, self.reset_first
        yield "hang", self.hang, self.hang_first

    def at(self, n: int) -> str | None:
        """The name of the fault that happens to request `n`, from 1."""
        for name, planned, first in self.steps():
            if planned:
                if first == 0 or n <= first:
                    return name
                n -= first
        return None
