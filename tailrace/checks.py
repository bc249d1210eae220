"""What a package above this one tells `tailrace check`, through the entry-point group `tailrace.checks`."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    An entry point of the group is a function `(settings, sinks) -> Iterable[Finding]`: without names of sinks
    it looks at the settings alone and asks nobody; with names it asks those sinks. It may raise
    `MissingPackage`."""

    ok: bool
    text: str
    """What is well, or what is wrong and which setting mends it; without secrets."""
