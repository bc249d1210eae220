"""Making records from decoded values: a copy of an empty one, then what is not null is set. A call with 40
keywords takes ten times as long, since a struct looks each of them up among all its fields. Compiled where
there is a compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

_set: Final = force_setattr


class RecordBuilder:
    """How a record of one class is made from the values of the fields `names`."""

    __slots__ = ("_build", "_empty", "_factories", "_names", "_nulls")

    def __init__(self, build: Callable[..., Any], names: Sequence[str]) -> None:
        """build: a struct class, or anything that is called with the values by name."""
        self._build: Any = build
        self._names: list[str] = list(names)
        self._empty: Any = None
        """What is copied; None: `build` is called."""
        self._nulls: list[bool] = []
        """Of each name, whether the empty record has None there."""
        self._factories: list[tuple[str, Any]] = []
        """Fields that no value is given for, and what makes their defaults."""
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
            return  # the call says what is wrong
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
        """The record. values: one for each name. Raises what the call raises."""
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
