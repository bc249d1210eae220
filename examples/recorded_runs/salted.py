"""Other ids for the same runs, so that one recording can be published as any number of different traces."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

Rename = Callable[[str], str]
"""Id as recorded -> id as published."""

_NAMESPACE: Final = uuid.UUID("6d1f3c52-0a8e-5b57-9d5e-7f2f0b6f6a11")


def renaming(salt: str | None) -> Rename:
    """A function from recorded ids to UUIDs derived from `salt` and the id.

    The same salt and id always give the same UUID. None keeps the ids.
    """
    if salt is None:
        return str
    return lambda recorded: str(uuid.uuid5(_NAMESPACE, f"{salt}\0{recorded}"))
