"""Makes records from decoded values: copies an empty record, then sets the fields that are not null.

Calling a struct with 40 keywords takes ten times as long, because it searches all its fields for each of
them. Compiled by mypyc if a compiler is available.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

_set: Final = force_setattr


class RecordBuilder:
    """Makes records of one class from the values of given fields."""

    __slots__ = ("_build", "_empty", "_factories", "_names", "_nulls")

    def __init__(self, build: Callable[..., Any], names: Sequence[str]) -> None:
        """
        Args:
            build: A struct class, or any callable that takes the values by name.
            names: The fields for which values are given.
        """
        self._build: Any = build
        self._names: list[str] = list(names)
        self._empty: Any = None
        """The record that is copied; None: `build` is called instead."""
        self._nulls: list[bool] = []
        """For each name, whether the empty record has None there."""
        self._factories: list[tuple[str, Any]] = []
        """Fields without a given value, with the factories of their defaults."""
        if (
            isinstance(build, type)
            and issubclass(build, msgspec.Struct)
            and not hasattr(build, "__post_init__")
        ):
            self._prepare(build)

    def _prepare(self, cls: type[msgspec.Struct]) -> None:
        fields = {f.name: f for f in msgspec.structs.fields(cls)}
        known = set(self._names)
        if not known <= fields.keys() or any(f.required and f.name not in known for f in fields.values()):
            return  # calling `build` will raise an error that says what is wrong
        empty = cls(**{name: None for name, f in fields.items() if f.required or name in known})
        for name in self._names:
            f = fields[name]
            if f.default is not msgspec.NODEFAULT:
                _set(empty, name, f.default)
        for name, f in fields.items():
            if name not in known and f.default_factory is not msgspec.NODEFAULT:
                self._factories.append((name, f.default_factory))
        self._empty = empty
        self._nulls = [getattr(empty, name) is None for name in self._names]

    def make(self, values: list[Any]) -> Any:
        """Makes one record. Raises what `build` raises.

        Args:
            values: One for each name, in order.
        """
        empty = self._empty
        if empty is None:
            return self._build(**dict(zip(self._names, values, strict=True)))
        made = empty.__copy__()
        names, nulls = self._names, self._nulls
        for i in range(len(names)):
            value = values[i]
            if value is not None or not nulls[i]:
                _set(made, names[i], value)
        for name, factory in self._factories:
            _set(made, name, factory())
        return made
