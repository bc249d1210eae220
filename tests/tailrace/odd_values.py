"""Objects that applications put into events, and hostile ones."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
from pydantic_core import core_schema

SECRET = "sk-1234567890"
"""Must not be in any event."""


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str):
    """A subclass of str, as template engines use."""

    def __str__(self) -> str:
        return "not this"


class Number(int):
    pass


class Ratio(float):
    pass


class Pair(NamedTuple):
    x: int
    y: str


@dataclasses.dataclass
class Point:
    x: int
    key: str = dataclasses.field(default=SECRET, repr=False)
    _private: str = SECRET

    @property
    def area(self) -> int:
        raise AssertionError("a property was called")


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


@attrs.define
class Shape:
    x: int
    key: str = attrs.field(default=SECRET, repr=False)
    token: str = attrs.field(default=SECRET, repr=lambda value: "***")


class Plan(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    x: int = 1
    key: pydantic.SecretStr = pydantic.SecretStr(SECRET)
    hidden: str = pydantic.Field(default=SECRET, repr=False)
    excluded: str = pydantic.Field(default=SECRET, exclude=True)
    masked: str = SECRET
    _private: str = SECRET

    @pydantic.field_serializer("masked")
    def _mask(self, value: str) -> str:
        raise AssertionError("a serializer was called")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def computed(self) -> int:
        raise AssertionError("a property was called")


def _refuse(value: object) -> str:
    raise AssertionError("a serializer was called")


class Masked(str):
    """Text that brings its serializer with it, as nothing but the schema of a class that uses it says."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(ref="masked"),
            serialization=core_schema.plain_serializer_function_ser_schema(_refuse),
        )


class Mask:
    """An annotation that puts a serializer into the schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema: Any = handler(source)
        schema["serialization"] = core_schema.plain_serializer_function_ser_schema(_refuse)
        return schema


class Masking(pydantic.BaseModel):
    """Each field but the first and the last hides its value in another way."""

    x: int = 1
    annotated: Annotated[str, Mask()] = SECRET
    by_type: Masked = Masked(SECRET)
    inside: list[Masked] | None = [Masked(SECRET)]
    serializer: Annotated[str, pydantic.PlainSerializer(_refuse)] = SECRET
    unset: str = pydantic.Field(default=SECRET, exclude_if=lambda value: True)
    path: pathlib.PurePosixPath = pathlib.PurePosixPath("/a")
    children: list[Masking] = []


@pydantic.dataclasses.dataclass
class MaskingPoint:
    x: int = 1
    by_type: Masked = Masked(SECRET)


class Whole(pydantic.BaseModel):
    """Decides as a whole what its serialised form has."""

    x: int = 1
    key: str = SECRET

    @pydantic.model_serializer
    def _own(self) -> dict[str, Any]:
        raise AssertionError("a serializer was called")


class Time(datetime.datetime):
    pass


class Client:
    """An object of the application, whose texts hold a key."""

    def __init__(self) -> None:
        self.api_key = SECRET

    def __repr__(self) -> str:
        return f"Client({self.api_key})"

    def __str__(self) -> str:
        return self.api_key


class Refusal(Exception):
    """An exception whose text holds a key, as those of some HTTP clients do."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.request = SECRET

    def __str__(self) -> str:
        return SECRET


def _raise(*_: Any) -> Any:
    raise RuntimeError("a method of a value was called")


class Meta(type):
    __getattribute__ = _raise


Hostile: Any = Meta(
    "Hostile",
    (),
    {
        "__class__": property(_raise),
        **dict.fromkeys(
            (
                "__getattr__",
                "__getattribute__",
                "__repr__",
                "__str__",
                "__iter__",
                "__len__",
                "__bool__",
                "__eq__",
                "__index__",
                "__float__",
                "__fspath__",
                "__format__",
                "__call__",
                "__getitem__",
            ),
            _raise,
        ),
        "__hash__": lambda self: 5,
    },
)
"""A class all of whose methods raise."""

_METHODS = ("__iter__", "__len__", "__getitem__", "__str__", "__repr__", "__eq__", "__bool__", "__format__")


def _overridden(base: type, *names: str) -> Any:
    return type(f"Odd{base.__name__}", (base,), dict.fromkeys((*_METHODS, *names), _raise))


OddStr: Any = _overridden(str, "encode", "__hash__", "isascii")
OddInt: Any = _overridden(int, "__index__", "__int__", "bit_length")
OddDict: Any = _overridden(dict, "items", "keys", "values")
OddList: Any = _overridden(list)


class Stream:
    """Yields once; `taken` says whether anything did."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        self.taken += 1
        return iter([1])

    def __next__(self) -> int:
        self.taken += 1
        return 1

    def read(self) -> str:
        self.taken += 1
        return "read"


def circle() -> Any:
    inner: dict[str, Any] = {"x": 1}
    inner["self"] = inner
    inner["list"] = [inner]
    return inner


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


class _RaisingEq(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError(SECRET)

    __hash__ = type.__hash__


class _AlwaysEqual(type):
    def __eq__(cls, other: object) -> bool:
        return True

    def __hash__(cls) -> int:
        return hash(dict)


class _RaisingHash(type):
    def __hash__(cls) -> int:
        raise RuntimeError(SECRET)


def odd_types() -> list[Any]:
    """Values of types that compare and hash in their own way."""
    return [kind("Odd", (), {})() for kind in (_RaisingEq, _AlwaysEqual, _RaisingHash)]


class Indexed:
    def __index__(self) -> int:
        return 5
