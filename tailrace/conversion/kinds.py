"""Which handler a type has. Pure."""

from __future__ import annotations

import enum
from typing import Any

from tailrace.conversion import libraries, standard
from tailrace.conversion.declared import by_fields
from tailrace.conversion.objects import mro, of_class
from tailrace.conversion.walk import Conversion, Handler


def start(room: int, cut: bool = True) -> Conversion:
    """A conversion that knows all kinds. The arguments are those of `Conversion`."""
    return Conversion(room, cut, _Kinds().handler)


class _Kinds:
    """The handlers by type, with those of the libraries that are imported when the first one is looked up."""

    def __init__(self) -> None:
        self._libraries: dict[type, Handler] | None = None

    def handler(self, t: type) -> Handler | None:
        """The handler of a type; None if its values are to become its name."""
        found = standard.EXACT.get(t)
        if found is not None:
            return found
        if issubclass(t, enum.Enum):
            return standard.of_enum
        if self._libraries is None:
            self._libraries = libraries.imported()
        for base in mro(t):
            found = self._libraries.get(base) or standard.BASES.get(base)
            if found is not None:
                return found
        if of_class(t, "__pydantic_complete__") is False:  # its fields are not final yet
            return by_fields.__wrapped__(t)
        key: Any = t
        return by_fields(key)
