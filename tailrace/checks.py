"""The result type of the checks that other packages add to `tailrace check`.

They register in the entry-point group `tailrace.checks`.
"""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    An entry point of the group is a function `(settings, sinks) -> Iterable[Finding]`. If `sinks` is
    empty it checks the settings only and contacts no server; otherwise it contacts the vendors of those
    sinks. It may raise `MissingPackage`.
    """

    ok: bool
    text: str
    """What was checked, or what is wrong and which setting fixes it. Contains no secrets."""
